"""dlib's recogniser in torch against dlib's own."""

from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from veil.data.faces import enrol
from veil.data.folder import folder
from veil.faces.pictures import to_pixels
from veil.recognizers.dlib import Dlib, DlibNetwork, dlib_model
from veil.recognizers.warp import similarity
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.types import Faces

WEIGHTS = "dlib_face_recognition_resnet_model_v1"


@pytest.fixture(scope="module")
def judge() -> Dlib:
    return Dlib()


@pytest.fixture(scope="module")
def crops(photos: Path, cache: str) -> Faces:
    (batch,) = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes.loader(64)
    return batch


@pytest.fixture(scope="module")
def dlib_chips(judge: Dlib, crops: Faces) -> np.ndarray:
    """What dlib itself cuts out."""
    chips = []
    for pixels in to_pixels(crops.images):
        box = max(judge.detector(pixels, 0), key=lambda box: box.area())
        chips.append(dlib.get_face_chip(pixels, judge.landmarks(pixels, box), 150, 0.25))
    return np.stack(chips)


def test_the_network_equals_dlib_on_the_same_chips(judge: Dlib, dlib_chips: np.ndarray) -> None:
    reference = dlib.face_recognition_model_v1(str(dlib_model(WEIGHTS)))
    expected = np.array([reference.compute_face_descriptor(chip) for chip in dlib_chips])
    chips = torch.from_numpy(dlib_chips).permute(0, 3, 1, 2).float() / 255
    assert np.abs(judge.network(chips).numpy() - expected).max() < 1e-5


def test_chips_are_dlibs_but_for_interpolation(judge: Dlib, crops: Faces, dlib_chips: np.ndarray) -> None:
    points, found = judge.find(crops.images)
    assert found.all()
    chips = judge.chips(crops.images, points)
    expected = torch.from_numpy(dlib_chips).permute(0, 3, 1, 2).float() / 255
    assert (chips - expected).abs().mean() < 3 / 255
    ours, theirs = (torch.nn.functional.normalize(judge.network(part), dim=1) for part in (chips, expected))
    assert (ours * theirs).sum(dim=1).min() > 0.999


def test_a_face_that_is_not_found_is_where_faces_are(
    judge: Dlib, crops: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, found = judge.see(torch.cat([crops.images[:1], torch.full_like(crops.images[:1], 0.5)]))
    assert found.tolist() == [True, False]
    assert embeddings.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    seen = judge(crops.images)
    monkeypatch.setattr(judge, "detector", lambda *_: [])
    blind, found = judge.see(crops.images)
    assert not found.any()
    likeness = blind @ seen.T
    assert likeness.argmax(dim=1).tolist() == list(range(len(seen)))  # as sure of each face as its own detector
    assert likeness.diagonal().min() > 0.9


def test_embeddings_do_not_depend_on_the_batch(judge: Dlib, crops: Faces) -> None:
    together = judge(crops.images)
    torch.testing.assert_close(judge(crops.images[3:4]), together[3:4], atol=1e-5, rtol=1e-4)


def test_faces_are_aligned_in_single_precision(judge: Dlib, crops: Faces) -> None:
    exact = judge(crops.images[:4])
    with torch.autocast("cpu", torch.bfloat16):
        quick = judge(crops.images[:4]).float()
    assert (F.normalize(quick, dim=1) * exact).sum(dim=1).min() > 0.999


def test_it_is_differentiable_and_frozen(judge: Dlib, crops: Faces) -> None:
    before = weights_of(judge)
    images = crops.images[:2].clone().requires_grad_()
    judge.train()
    judge(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert weights_of(judge) == before
    assert not any(module.training for module in judge.modules())


def test_similarity_recovers_a_known_one() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(3, 5, 2, generator=generator)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]]) * 2.5
    target = source @ turn.T + torch.tensor([3.0, -1.0])
    expected = torch.tensor([[2.0, -1.5, 3.0], [1.5, 2.0, -1.0], [0, 0, 1]])
    torch.testing.assert_close(similarity(source, target), expected.expand(3, 3, 3), atol=1e-4, rtol=1e-4)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.dat").write_bytes(b"not a network")
    with pytest.raises(ValueError, match="not dlib's face recognition model"):
        DlibNetwork(tmp_path / "other.dat")
