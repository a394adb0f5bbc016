"""Eigenfaces against scikit-learn, and on real faces."""

from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from veil.data.faces import enrol
from veil.data.folder import folder
from veil.errors import InputError
from veil.recognizers.eigenfaces import Eigenfaces
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.types import Faces, view


@pytest.fixture(scope="module")
def seen(photos: Path, cache: str) -> tuple[Faces, Faces]:
    enrolment = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    (gallery,), (probes,) = enrolment.gallery.loader(64), enrolment.probes.loader(64)
    return gallery, probes


def test_embeddings_equal_scikit_learns_transform_normalised(seen: tuple[Faces, Faces]) -> None:
    gallery, probes = seen
    recognizer = Eigenfaces(variance=0.9, size=24).fit(gallery.images)
    pca = PCA(0.9, whiten=True, svd_solver="full").fit(recognizer.pixels(gallery.images).double().numpy())
    expected = normalize(pca.transform(recognizer.pixels(probes.images).double().numpy()))
    assert 1 < expected.shape[1] < len(gallery.keys)
    assert recognizer(probes.images).numpy() == pytest.approx(expected, abs=1e-4)


def test_pixels_are_the_grey_view() -> None:
    images = torch.zeros(1, 3, 256, 256)
    view(images)[0, 1] = 0.5  # green
    assert Eigenfaces(size=4).pixels(images).flatten().tolist() == pytest.approx([0.587 / 2] * 16)


def test_it_recognises_people_better_than_chance(seen: tuple[Faces, Faces]) -> None:
    gallery, probes = seen
    recognizer = Eigenfaces().fit(gallery.images)
    nearest = (recognizer(probes.images) @ recognizer(gallery.images).T).argmax(dim=1)
    assert (gallery.identities[nearest] == probes.identities).double().mean() > 0.5  # of six people


def test_it_is_differentiable_and_frozen_and_the_same_for_the_same_photos(seen: tuple[Faces, Faces]) -> None:
    gallery, probes = seen
    recognizer = Eigenfaces().fit(gallery.images)
    before = weights_of(recognizer)
    images = probes.images[:2].clone().requires_grad_()
    recognizer.train()
    recognizer(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not recognizer.training
    assert weights_of(recognizer) == before == weights_of(Eigenfaces().fit(gallery.images))
    torch.testing.assert_close(recognizer(probes.images[3:4]), recognizer(probes.images)[3:4], atol=1e-5, rtol=1e-4)


def test_what_it_cannot_do_is_one_clear_error(seen: tuple[Faces, Faces]) -> None:
    gallery, _ = seen
    with pytest.raises(RuntimeError, match=r"fit\(images\) first"):
        Eigenfaces()(gallery.images)
    with pytest.raises(InputError, match="at least 3 photos, got 2"):
        Eigenfaces().fit(gallery.images[:2])
    with pytest.raises(InputError, match=r"variance .* in \(0, 1\), got 1.5"):
        Eigenfaces(variance=1.5)
    with pytest.raises(InputError, match="at least 2, got 0"):
        Eigenfaces(size=0)
