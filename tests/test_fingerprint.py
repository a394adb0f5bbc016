"""A recogniser's fingerprint names everything that its embeddings depend on."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CONF, compose_config, missing
from facenet_pytorch import InceptionResnetV1
from hydra.utils import instantiate
from safetensors.torch import save_file
from tiny_onnx import WEIGHT, write_graph
from torch import Tensor, nn
from torchvision.models import squeezenet1_0, squeezenet1_1

from veil.data.faces import enrol
from veil.data.folder import folder
from veil.recognizers.eigenfaces import Eigenfaces
from veil.storage.networks import weights_of
from veil.storage.progress import Stages

ELSEWHERE = {"facenet_vggface2", "facenet_casia_hub", "frbench"}  # downloads; FRBench's stand-in is in test_frbench.py
ONLY_A_PLACE = {("facenet", "cache")}
LATER = {("facenet", "checkpoint")}  # lays other weights over the recogniser's own: test_finetune.py

Knobs = dict[str, Any]


@pytest.fixture(scope="module")
def crops(photos: Path, cache: str) -> Tensor:
    grey = next(iter(enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes.loader(4))).images
    return grey * torch.tensor([1.0, 0.9, 0.8])[:, None, None]  # coloured: the order of the channels matters


@pytest.fixture(scope="module")
def knobs(tmp_path_factory: pytest.TempPathFactory, cache: str) -> dict[str, tuple[Knobs, dict[str, Knobs]]]:
    """Of each recogniser what it is built with, and for each knob what else may be asked for."""
    place = tmp_path_factory.mktemp("weights")

    def saved(network: nn.Module, name: str) -> str:
        save_file(network.state_dict(), place / f"{name}.safetensors")
        return str(place / f"{name}.safetensors")

    torch.manual_seed(0)
    first, second = (saved(squeezenet1_1(num_classes=12), name) for name in ("first", "second"))
    local = {"weights": first, "architecture": "squeezenet1_1", "embedding": 12, "input_size": 64}
    knobs: dict[str, tuple[Knobs, dict[str, Knobs]]] = {
        "dlib": ({}, {}),
        "eigenfaces": ({}, {"variance": {"variance": 0.5}, "size": {"size": 32}}),
        "facenet": (
            {"cache": cache},
            {
                "weights": {"weights": saved(InceptionResnetV1(), "facenet")},
                "cache": {"cache": str(place)},
            },
        ),
        "local": (
            local,
            {
                "weights": {"weights": second},
                "architecture": {
                    "architecture": "squeezenet1_0",
                    "weights": saved(squeezenet1_0(num_classes=12), "older"),
                },
                "embedding": {"embedding": 7, "weights": saved(squeezenet1_1(num_classes=7), "shorter")},
                "input_size": {"input_size": 72},
                "mean": {"mean": [0.5, 0.4, 0.5]},
                "std": {"std": [0.5, 0.5, 0.25]},
                "channels": {"channels": "bgr"},
            },
        ),
    }
    if find_spec("onnx") and find_spec("onnxruntime"):
        open_size = ("b", 3, "h", "w")
        knobs["onnx"] = (
            {"file": write_graph(place / "first.onnx", open_size), "input_size": 112, "alignment": "view"},
            {
                "file": {"file": write_graph(place / "second.onnx", open_size, -WEIGHT)},
                "input_size": {"input_size": 128},
                "mean": {"mean": [0.5, 0.4, 0.5]},
                "std": {"std": [0.5, 0.5, 0.25]},
                "channels": {"channels": "bgr"},
                "alignment": {"alignment": "five_points"},
            },
        )
    return knobs


def recogniser(name: str, settings: Knobs, crops: Tensor) -> nn.Module:
    module = instantiate(settings)
    return module.fit(crops) if isinstance(module, Eigenfaces) else module


@pytest.mark.parametrize("name", sorted({path.stem for path in (CONF / "recognizer").glob("*.yaml")} - ELSEWHERE))
def test_every_knob_that_changes_the_embedding_changes_the_fingerprint(
    name: str, knobs: dict[str, tuple[Knobs, dict[str, Knobs]]], crops: Tensor
) -> None:
    if name == "onnx" and name not in knobs:
        missing("the packages onnx and onnxruntime are not installed")
    base, others = knobs[name]
    required = [f"recognizer.{knob}=somewhere" for knob in ("weights", "file") if knob in base]
    settings = compose_config(f"recognizer={name}", *required).recognizer | base
    wanted = {knob for knob in settings if not knob.startswith("_")} - {knob for of, knob in LATER if of == name}
    assert set(others) == wanted  # a new knob is tried here too
    first = recogniser(name, settings, crops)
    before, embeddings = weights_of(first), first(crops)
    assert weights_of(recogniser(name, settings, crops)) == before
    for knob, change in others.items():
        other = recogniser(name, settings | change, crops)
        seen = other(crops)
        same = seen.shape == embeddings.shape and torch.equal(seen, embeddings)
        assert same == ((name, knob) in ONLY_A_PLACE), knob
        assert (weights_of(other) == before) == same, knob


class Twin(nn.Module):
    """A network whose output hangs on more than its state."""

    def __init__(self, shift: float = 0.0, size: int = 3, shape: tuple[int, int] = (2, 3)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).view(shape))
        self.register_buffer("shift", torch.tensor(shift), persistent=False)
        self.preprocessing = {"size": size, "mean": [0.5]}


def test_unsaved_buffers_shapes_and_the_preprocessing_of_parts_count() -> None:
    same = weights_of(nn.Sequential(Twin()))
    assert weights_of(nn.Sequential(Twin())) == same
    for other in (Twin(shift=1.0), Twin(size=4), Twin(shape=(3, 2)), Twin().double()):
        assert weights_of(nn.Sequential(other)) != same


def test_two_classes_of_one_name_are_two() -> None:
    elsewhere = type("Twin", (Twin,), {"__module__": "elsewhere", "__qualname__": "Twin"})
    assert weights_of(elsewhere()) != weights_of(Twin())
