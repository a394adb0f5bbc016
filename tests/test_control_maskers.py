"""Masks that control for shape, place and person."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from veil.config import compose
from veil.data.faces import FaceSet
from veil.errors import InputError
from veil.faces.pictures import save
from veil.maskers.budget import budget
from veil.maskers.cam import gradcam
from veil.maskers.control import blobs, mean_map, shuffled
from veil.maskers.random import random_patches
from veil.metrics.shape import border_ratio, raggedness_of
from veil.recognizers.whitebox import WhiteBox
from veil.storage.addresses import set_folder
from veil.tasks.whitebox import asking_masker
from veil.types import Faces, Scores, view


def crowd(count: int, size: int = 64) -> Faces:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return Faces(images, torch.arange(count) % 3, torch.arange(count), tuple(map(str, range(count))))


@pytest.fixture
def strangers(tmp_path: Path) -> Callable[[], FaceSet]:
    files = [tmp_path / f"{number}.png" for number in range(6)]
    for number, file in enumerate(files):
        save(np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8), file)
    faces = FaceSet(files, [file.stem for file in files], [0, 0, 1, 1, 2, 2], list(range(6)), seed=0)
    return lambda: faces


def brightness(faces: Faces, recognizer: WhiteBox) -> Scores:
    return view(faces.images).mean(dim=1)


def test_border_ratio_by_hand() -> None:
    shapes = torch.zeros(4, 6, 6, dtype=torch.bool)
    shapes[0, 1:5, 1:5] = True  # a square: 16 of border over 4 x 4
    shapes[1, 0, :4] = True  # a bar of 1 x 4 at the edge: 10 over 4 x 2
    shapes[2, ::2, ::2] = True  # nine lone cells: 36 over 4 x 3
    assert border_ratio(shapes)[:3].tolist() == [1.0, 1.25, 3.0]
    assert border_ratio(shapes)[3].isnan()
    disc = ((torch.arange(200)[:, None] - 99.5) ** 2 + (torch.arange(200) - 99.5) ** 2) < 80**2
    assert border_ratio(disc[None]).item() == pytest.approx(4 / torch.pi**0.5 / 2, rel=0.01)


@pytest.mark.parametrize("cells", [16, None])
def test_blobs_are_one_piece_at_every_size(cells: int | None, recognizer: WhiteBox) -> None:
    faces = crowd(6)
    for ratio in (0.1, 0.25, 0.5):
        masks = view(budget(blobs(faces, recognizer, cells=cells, ratio=ratio, ragged=2.0), ratio, cells, (64, 64)))
        assert [label(mask)[1] for mask in masks[:, 0].numpy()] == [1] * 6
        assert masks[..., 20, 20].all()  # the centre


def test_blobs_have_the_wanted_raggedness_and_each_face_its_own(recognizer: WhiteBox) -> None:
    faces, means = crowd(60, 256), []
    for ragged in (1.0, 1.5, 2.0):
        masks = budget(blobs(faces, recognizer, cells=16, ratio=0.25, ragged=ragged), 0.25, 16, (256, 256))
        means.append(raggedness_of(masks).mean().item())
    assert means[0] < 1.3
    assert means[1:] == pytest.approx([1.5, 2.0], abs=0.1)
    assert len({mask.numpy().tobytes() for mask in masks}) == 60
    with pytest.raises(InputError, match=r"masker.ragged must be at least 1, .* got 0.5"):
        blobs(faces, recognizer, cells=16, ratio=0.25, ragged=0.5)


def test_smoothing_reaches_the_raggedness_and_keeps_the_area(recognizer: WhiteBox) -> None:
    faces = crowd(40, 256)
    scores = random_patches(faces, recognizer, cells=16, centre_bias=1.0)
    free = budget(scores, 0.25, 16, (256, 256))
    assert raggedness_of(free).min() > 3
    before = 5.0
    for most in (3.0, 2.0, 1.5):
        masks = budget(scores, 0.25, 16, (256, 256), None, most)
        assert view(masks).sum(dim=(1, 2, 3)).tolist() == [6400] * 40
        assert raggedness_of(masks).max() <= most
        assert raggedness_of(masks).mean() < before
        before = raggedness_of(masks).mean().item()
    assert torch.equal(budget(scores, 0.25, 16, (256, 256), None, 10.0), free)


def test_each_face_is_smoothed_alone_and_around_what_is_protected(recognizer: WhiteBox) -> None:
    faces = crowd(40, 256)  # more than the grid has cells a side
    scores = random_patches(faces, recognizer, cells=16, centre_bias=1.0)
    kept = torch.zeros(40, 1, 256, 256, dtype=torch.bool)
    view(kept)[..., :80] = True
    together = budget(scores, 0.25, 16, (256, 256), kept, 1.2)
    assert not (together & kept).any()
    for index in range(40):
        alone = budget(scores[index : index + 1], 0.25, 16, (256, 256), kept[index : index + 1], 1.2)
        assert torch.equal(alone, together[index : index + 1])


def test_shuffled_scores_are_those_of_a_photo_of_somebody_else(
    recognizer: WhiteBox, strangers: Callable[[], FaceSet]
) -> None:
    faces = crowd(30)
    maps = [brightness(strangers()[index], recognizer)[0] for index in range(6)]
    drawn = set()
    for scores, person in zip(
        shuffled(faces, recognizer, of=brightness, others=strangers), faces.identities, strict=True
    ):
        source = next(index for index in range(6) if torch.equal(scores, maps[index]))
        assert strangers().identities[source] != person
        drawn.add(source)
    assert drawn == set(range(6))


def test_the_mean_map_is_the_mean_rank_and_the_same_for_all(
    recognizer: WhiteBox, strangers: Callable[[], FaceSet]
) -> None:
    of = partial(mean_map, of=brightness, others=strangers, cells=10)
    found = of(crowd(5), recognizer, photos=100)
    assert all(torch.equal(found[0], other) for other in found)
    means = torch.cat([brightness(strangers()[index], recognizer) for index in range(6)])
    cells = means.view(6, 10, 4, 10, 4).mean(dim=(2, 4)).flatten(1)
    expected = (cells.argsort(dim=1).argsort(dim=1) + 0.5).mean(dim=0) / 100
    torch.testing.assert_close(found[0].flatten(), expected, atol=0.01, rtol=0)  # a rank may change by rounding
    assert not torch.equal(found[0], of(crowd(1), recognizer, photos=2)[0])


@pytest.mark.parametrize("masker", [shuffled, partial(mean_map, photos=10, cells=10)])
def test_without_attacker_people_there_is_no_map_of_others(
    masker: Callable[..., Scores], recognizer: WhiteBox, strangers: Callable[[], FaceSet]
) -> None:
    with pytest.raises(InputError, match=r"split.attackers must leave at least 2, got 1"):
        masker(crowd(2), recognizer, of=brightness, others=lambda: strangers().select([0, 1]))


@pytest.mark.parametrize("masker", ["shuffled", "mean_map"])
def test_any_masker_can_be_controlled_but_one_that_asks_for_more(masker: str) -> None:
    def asked(of: str) -> Any:
        config = compose(f"masker={masker}", f"masker@masker.of={of}")
        return asking_masker(config, lambda: pytest.fail("asked"), lambda: pytest.fail("asked"))

    assert asked("gradcam").keywords["of"].masker.__wrapped__.func is gradcam
    for of in ("search", "shuffled"):
        with pytest.raises(InputError, match=r"masker\.of must be a masker that asks for the face alone, got veil"):
            asked(of)


def test_whose_maps_are_taken_counts_in_the_address() -> None:
    def place(*overrides: str) -> Path:
        return set_folder(compose(*overrides), "photos").path

    fewer = "split.attackers=0.5"
    assert place("masker=saliency", fewer) == place("masker=saliency")
    for masker in ("shuffled", "mean_map"):
        assert place(f"masker={masker}", fewer) != place(f"masker={masker}")
