"""LPIPS against its formula, on a backbone without its weights."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from veil.metrics.image import LPIPS
from veil.types import view

LAYERS = (1, 4, 7, 9, 11)  # AlexNet's five ReLUs
MEAN, STD = ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))  # of pixels in [-1, 1]


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    torch.manual_seed(0)
    network = torchvision.models.alexnet(weights=None).eval()
    monkeypatch.setattr(torchvision.models, "alexnet", lambda weights: network)
    return network


def features(backbone: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    maps = ((2 * images - 1) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    outputs = []
    for index, layer in enumerate(backbone.features):
        maps = layer(maps)
        if index in LAYERS:
            outputs.append(F.normalize(maps, dim=1))
    return outputs


def test_lpips_is_its_formula_of_the_view(backbone: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    clear = torch.rand(2, 3, 256, 256, generator=generator)
    other = torch.rand(2, 3, 256, 256, generator=generator)
    metric = LPIPS("alex")
    expected = torch.zeros(2)
    pairs = zip(features(backbone, view(clear)), features(backbone, view(other)), metric.network.lins, strict=True)
    for first, second, layer in pairs:
        weight = layer.model[1].weight[0]
        assert (weight >= 0).all()  # torchmetrics' own, learnt on human judgements
        expected += ((first - second).square() * weight).sum(dim=1).mean(dim=(1, 2))
    assert metric(clear, other).tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert metric(clear[:1], clear[:1]).item() == 0


def test_a_backbone_that_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(weights: object) -> Callable[..., None]:
        raise OSError("no network")

    monkeypatch.setattr(torchvision.models, "alexnet", no_network)
    with pytest.raises(ConnectionError, match=r"metrics=lpips needs .* alex, .* metrics=default"):
        LPIPS("alex")
