"""Inception v3 from a file on disk, and its place among a run's figures."""

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchmetrics.image.fid import NoTrainInceptionV3

from veil.errors import InputError
from veil.recognizers.inception import Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights in torch-fidelity's format."""
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules[NoTrainInceptionV3.__mro__[1].__module__]
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        torch.manual_seed(0)
        state = NoTrainInceptionV3("inception-v3-compat", ["2048"]).state_dict()
    torch.save(state, path)
    return str(path)


def test_features_of_the_view_each_face_alone(weights: str) -> None:
    network = Inception(weights)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = network(images)
    assert features.shape == (2, 2048)
    torch.testing.assert_close(network(images[1:]), features[1:], rtol=1e-3, atol=1e-4)
    other = images.clone()
    other[..., 0, 0] = 1 - other[..., 0, 0]  # outside the view
    assert torch.equal(network(other), features)
    assert not any(module.training for module in network.modules())


def test_missing_weights_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"features\.inception\.weights must be a \.pth file or null, got"):
        Inception(str(tmp_path / "nowhere.pth"))

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(sys.modules[NoTrainInceptionV3.__mro__[1].__module__], "load_state_dict_from_url", offline)
    with pytest.raises(InputError, match="could not be downloaded"):
        Inception()
