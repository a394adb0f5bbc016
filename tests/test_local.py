"""Recognisers from the user's own weight files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torchvision.models import squeezenet1_1

from veil.errors import InputError
from veil.recognizers.local import Local
from veil.storage.networks import weights_of
from veil.types import view

IMAGES = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
KNOBS: dict[str, Any] = {
    "architecture": "squeezenet1_1",
    "embedding": 12,
    "input_size": 64,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_file(squeezenet1_1(weights=None, num_classes=12).state_dict(), path)
    return path


def test_it_is_the_network_on_the_normalised_view(weights: Path) -> None:
    network = squeezenet1_1(weights=None, num_classes=12).eval()
    network.load_state_dict(load_file(weights))
    small = F.interpolate(view(IMAGES), (64, 64), mode="bilinear", antialias=True)
    channels = [(small[:, c] - KNOBS["mean"][c]) / KNOBS["std"][c] for c in range(3)]
    expected = F.normalize(network(torch.stack(channels, dim=1)), dim=1)
    torch.testing.assert_close(Local(str(weights), **KNOBS)(IMAGES), expected)


def test_a_network_of_bgr_equals_one_of_rgb_whose_first_weights_are_flipped(weights: Path, tmp_path: Path) -> None:
    state = load_file(weights)
    state["features.0.weight"] = state["features.0.weight"].flip(1).contiguous()
    save_file(state, tmp_path / "bgr.safetensors")
    # mean and std are of red, green and blue either way
    mine = Local(str(tmp_path / "bgr.safetensors"), **KNOBS, channels="bgr")
    torch.testing.assert_close(mine(IMAGES), Local(str(weights), **KNOBS)(IMAGES))


def test_facenets_architecture_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = InceptionResnetV1().eval()
    path = tmp_path / "facenet.pt"
    torch.save({**network.state_dict(), "logits.weight": torch.ones(3, 512)}, path)
    half = [0.5, 0.5, 0.5]
    mine = Local(str(path), "inception_resnet_v1", embedding=512, input_size=160, mean=half, std=half)
    torch.testing.assert_close(mine(IMAGES), network(2 * view(IMAGES) - 1), atol=1e-5, rtol=1e-4)


def test_it_is_differentiable_and_frozen(weights: Path) -> None:
    recognizer = Local(str(weights), **KNOBS)
    before = weights_of(recognizer)
    images = IMAGES.clone().requires_grad_()
    recognizer.train()
    recognizer(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert view(images.grad).abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(module.training for module in recognizer.modules())
    assert weights_of(recognizer) == before


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"architecture": "resnet999"},
            r"architecture must be inception_resnet_v1 or a torchvision .* got 'resnet999'",
        ),
        ({"architecture": "resnet18"}, r"weights=.* are not of architecture=resnet18 .* conv1.weight missing"),
        ({"embedding": 7}, r"classifier.1.weight is \(12, 512, 1, 1\), not \(7, 512, 1, 1\)"),
        ({"architecture": "inception_resnet_v1"}, "embedding is 512 for inception_resnet_v1, got 12"),
        ({"std": [0.5, 0.5, 0.0]}, "std above 0"),
        ({"mean": [0.5]}, "three numbers"),
        ({"std": [0.5, float("nan"), 0.5]}, "std above 0, got .* nan"),
        ({"channels": "gbr"}, r"channels must be one of \('rgb', 'bgr'\), got 'gbr'"),
        ({"input_size": 0}, "input_size is in px, at least 1, got 0"),
    ],
)
def test_errors_name_the_knob(weights: Path, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Local(str(weights), **KNOBS | knobs)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        Local(str(tmp_path / "none.pt"), **KNOBS)
