"""FRBench's recognisers with a stand-in of its interface; judges that cannot be had."""

import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from conftest import compose_config
from hydra.errors import InstantiationException
from torch import Tensor, nn
from torch.nn import functional as F

from veil.errors import InputError
from veil.recognizers.dlib import Dlib
from veil.recognizers.frbench import FRBench
from veil.storage.networks import weights_of
from veil.tasks.judges import available


class DownloadError(Exception):
    pass


class AssetNotFoundError(DownloadError):
    pass


class Result(NamedTuple):
    embeddings: Tensor
    indices: list[int]


class Detector(nn.Module):
    def __init__(self, *, eager_load: bool) -> None:
        super().__init__()
        assert eager_load


class FR(nn.Module):
    """`frbench.FR` for RGB in [0, 255]: finds a face where the image is not dark, embeds it by a linear layer."""

    def __init__(self, backbone: str, loss: str, dataset: str, detector: Detector, *, eager_load: bool) -> None:
        super().__init__()
        assert eager_load  # else weights would arrive only with the first face
        if backbone == "nope":
            raise AssetNotFoundError("Model 'nope' not in manifest")
        if backbone == "offline":
            raise DownloadError("Download failed")
        self.name, self.detector, self.embedding_dim, self.input_size = (
            (backbone, loss, dataset),
            detector,
            8,
            (112, 112),
        )
        self.backbone = nn.Sequential(nn.Linear(48, 8), nn.Dropout(0.5))

    def forward(self, images: Tensor, discard_invalid: bool, l2_normalize: bool) -> Result:
        assert discard_invalid
        assert l2_normalize
        indices = [index for index, image in enumerate(images) if image.mean() > 50]
        if not indices:
            return Result(torch.empty(0, 8), [])
        pixels = F.adaptive_avg_pool2d(images[indices], 4).flatten(1)
        return Result(F.normalize(self.backbone(pixels / 255), dim=1), indices)


@pytest.fixture
def frbench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    settings: dict[str, Any] = {}
    stand_in = SimpleNamespace(
        FR=FR,
        FaceDetector=Detector,
        FRBenchDownloadError=DownloadError,
        FRBenchAssetNotFoundError=AssetNotFoundError,
        configure=settings.update,
        settings=settings,
    )
    monkeypatch.setitem(sys.modules, "frbench", stand_in)
    return stand_in


@pytest.fixture
def without_frbench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "frbench", None)


IMAGES = torch.stack([torch.full((3, 64, 64), shade) for shade in (0.9, 0.0, 0.4)])


def test_embeddings_are_its_own_and_a_face_not_found_is_nobody(frbench: SimpleNamespace) -> None:
    recognizer = FRBench("irse-50_arcface_ms1m")
    assert recognizer.network.name == ("irse-50", "arcface", "ms1m")
    assert recognizer.input_size == 112
    embeddings = recognizer(IMAGES)
    assert embeddings.norm(dim=1).tolist() == pytest.approx([1, 0, 1])
    linear = recognizer.network.backbone[0]
    for index, shade in ((0, 0.9), (2, 0.4)):
        torch.testing.assert_close(embeddings[index], F.normalize(linear(torch.full((48,), shade)), dim=0))
    assert not recognizer(IMAGES[1:2]).any()
    assert frbench.settings == {"update_check": False, "verbose": False}


def test_its_model_is_part_of_its_fingerprint(frbench: SimpleNamespace) -> None:
    fingerprints = set()
    for model in ("irse-50_arcface_ms1m", "resnet-50_arcface_ms1m"):
        torch.manual_seed(0)  # the same weights
        fingerprints.add(weights_of(FRBench(model)))
    assert len(fingerprints) == 2


def test_it_is_differentiable_and_frozen(frbench: SimpleNamespace) -> None:
    recognizer = FRBench("irse-50_arcface_ms1m")
    images = IMAGES.clone().requires_grad_()
    recognizer.train()
    recognizer(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert [bool(gradient.any()) for gradient in images.grad] == [True, False, True]
    assert not any(module.training for module in recognizer.modules())
    assert all(parameter.grad is None for parameter in recognizer.parameters())


def test_what_cannot_be_had_says_what_to_do(frbench: SimpleNamespace) -> None:
    with pytest.raises(ConnectionError, match=r"FRBENCH_CACHE .* judges=default"):
        FRBench("offline_arcface_ms1m")
    with pytest.raises(InputError, match="model must be one of FRBench's, got 'nope_arcface_ms1m'"):
        FRBench("nope_arcface_ms1m")
    with pytest.raises(InputError, match="<backbone>_<loss>_<training set>, got 'irse-50'"):
        FRBench("irse-50")


@pytest.mark.usefixtures("without_frbench")
def test_without_the_package_the_panels_judges_are_absent_with_the_reason() -> None:
    loaded, absent = available(compose_config("judges=panel").judges)
    assert list(loaded) == ["dlib"]
    assert isinstance(loaded["dlib"], Dlib)
    assert len(absent) == 10
    assert absent["irse100_adaface_ms1m"] == (
        "FRBench's irse-100_adaface_ms1m needs the package frbench: `pip install 'veil[panel]'`"
    )


def test_without_onnx_runtime_its_judge_is_absent_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    loaded, absent = available(compose_config("judges=onnx", "judges.own.file=mine.onnx").judges)
    assert list(loaded) == ["dlib"]
    assert absent == {"own": "recognizer=onnx needs the package onnxruntime for mine.onnx: `pip install 'veil[onnx]'`"}


def test_the_panels_judges_are_ten_of_different_make(frbench: SimpleNamespace) -> None:
    loaded, absent = available(compose_config("judges=panel").judges)
    assert not absent
    backbones, losses, datasets = zip(*(loaded[name].network.name for name in loaded if name != "dlib"), strict=True)
    assert [len(set(part)) for part in (backbones, losses, datasets)] == [7, 4, 3]
    assert len(backbones) == 10


def test_only_what_cannot_be_had_is_absent(frbench: SimpleNamespace) -> None:
    target = "veil.recognizers.frbench.FRBench"
    loaded, absent = available(
        {
            "here": {"_target_": target, "model": "irse-50_arcface_ms1m"},
            "there": {"_target_": target, "model": "offline_arcface_ms1m"},
        }
    )
    assert (list(loaded), list(absent)) == (["here"], ["there"])
    assert "could not be downloaded" in absent["there"]
    for wrong in ({"model": "nope_arcface_ms1m"}, {"modell": "irse-50_arcface_ms1m"}):
        with pytest.raises(InstantiationException):
            available({"wrong": {"_target_": target, **wrong}})
    for typo in ("veil.recognizers.frbenhc.FRBench", "veil.recognizers.frbench.FRBenhc"):
        with pytest.raises(InstantiationException):
            available({"wrong": {"_target_": typo}})
