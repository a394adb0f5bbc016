"""The search tries masks out: what it returns is never worse than where it starts, and costs what it may."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import compose_config
from torch.nn import functional as F

from veil.errors import InputError
from veil.maskers.budget import budget
from veil.maskers.random import random_patches
from veil.maskers.search import mixed, raggedness, search, swapped_cells
from veil.recognizers.whitebox import WhiteBox
from veil.tasks.whitebox import asking_masker
from veil.types import Faces, Images, Masks, Scores, view


class Grey:
    """Paints grey, and counts faces and batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, faces: Faces, masks: Masks) -> Images:
        self.batches.append(len(faces.keys))
        return torch.where(masks, 0.5, faces.images)


def blind(faces: Faces, recognizer: WhiteBox) -> Scores:
    return random_patches(faces, recognizer, cells=10)


def likeness(scores: Scores, faces: Faces, recognizer: WhiteBox) -> torch.Tensor:
    masks = budget(scores, 0.25, 10, (64, 64))
    return recognizer.likeness(torch.where(masks, 0.5, faces.images), faces.identities)


def test_it_leaves_less_than_any_start_and_more_repaints_leave_less(faces: Faces, recognizer: WhiteBox) -> None:
    starts = {"random": blind, "corner": lambda faces, _: torch.arange(100.0).expand(4, -1).view(4, 10, 10)}
    found = {
        repaints: likeness(
            search(faces, recognizer, Grey(), starts, 0.25, 10, repaints=repaints, mixes=0, holes=0.0, patience=100),
            faces,
            recognizer,
        )
        for repaints in (2, 30, 100)
    }
    started = torch.stack([likeness(start(faces, recognizer), faces, recognizer) for start in starts.values()])
    torch.testing.assert_close(found[2], started.amin(dim=0))
    assert (found[30] < found[2]).all()
    assert (found[100] <= found[30]).all()


def test_it_repaints_as_often_as_it_may_and_stops_where_nothing_helps(faces: Faces, recognizer: WhiteBox) -> None:
    def batches(ratio: float = 0.25, **knobs: int) -> list[int]:
        paint = Grey()
        search(faces, recognizer, paint, {"random": blind}, ratio, 10, **knobs)
        return paint.batches

    assert batches(repaints=3, mixes=2) == [4] * 3
    assert batches(repaints=12, mixes=0, patience=100) == [4] * 12
    assert batches(repaints=12, mixes=4, patience=100) == [4] * 12
    assert batches(repaints=13, mixes=1, draws=3, patience=100) == [4] * (1 + 3 * 4)  # whole view; start, mix, 2 swaps
    assert batches(1.0, repaints=100, mixes=0, patience=2) == [4] * 4  # no cell is left: start, view, 2 vain tries


def test_mixes_lie_between_the_starts_and_each_face_has_its_own(faces: Faces, recognizer: WhiteBox) -> None:
    orders = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    orders[:, 1] = orders[:, 0]
    one, other = mixed(orders, [torch.Generator().manual_seed(seed) for seed in (0, 1)])
    for mix in (one, other):
        weights = torch.linalg.lstsq(orders[:, 0].flatten(1).T, mix.flatten()[:, None]).solution[:, 0]
        torch.testing.assert_close(torch.einsum("s,src->rc", weights, orders[:, 0]), mix)
        assert (weights > 0).all()
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    assert not torch.equal(one, other)
    ramps = {f"ramp {at}": lambda faces, _, at=at: ramp(at).expand(len(faces.keys), -1, -1) for at in range(2)}
    starts = {"random": blind, **ramps}
    alone, more = (
        likeness(
            search(faces, recognizer, Grey(), starts, 0.25, 10, repaints=3 + mixes, mixes=mixes, holes=0.0),
            faces,
            recognizer,
        )
        for mixes in (0, 20)
    )
    assert (more <= alone).all()
    assert (more < alone).any()


def ramp(at: int) -> torch.Tensor:
    """Scores that rise to the right and, faster, downwards; or the other way round."""
    rows = torch.arange(100.0).view(10, 10)
    return rows.T if at else rows


def test_what_it_tries_first_is_what_is_published(faces: Faces, recognizer: WhiteBox) -> None:
    seeds: list[list[int]] = []

    def paint(faces: Faces, masks: Masks) -> Images:
        seeds.append(faces.seeds.tolist())
        return torch.where(masks, 0.5, faces.images)

    search(faces, recognizer, paint, {"random": blind}, 0.25, 10, repaints=2, mixes=0, draws=2)
    assert seeds == [[11, 22, 33, 44], [12, 23, 34, 45]]


def test_surrogates_have_a_say(faces: Faces, recognizer: WhiteBox) -> None:
    centroids = F.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(7)), dim=1)
    other = WhiteBox(recognizer.recognizer, recognizer.head, centroids)
    both = WhiteBox(recognizer.recognizer, recognizer.head, recognizer.centroids, [other])
    options = {"repaints": 60, "mixes": 0, "holes": 0.0, "patience": 60}
    alone, together = (search(faces, box, Grey(), {"random": blind}, 0.25, 10, **options) for box in (recognizer, both))
    assert (likeness(together, faces, other) <= likeness(alone, faces, other)).sum() >= 3
    assert (likeness(alone, faces, recognizer) <= likeness(together, faces, recognizer)).sum() >= 3


def test_a_price_on_the_border_makes_whole_masks(faces: Faces, recognizer: WhiteBox) -> None:
    def border(holes: float) -> torch.Tensor:
        scores = search(
            faces,
            recognizer,
            Grey(),
            {"random": blind},
            0.25,
            10,
            repaints=60,
            mixes=0,
            holes=holes,
            patience=100,
            noise=1.0,
        )
        return raggedness((scores > 1).float())

    assert (border(1000.0) < border(0.0)).all()


def test_raggedness_by_hand() -> None:
    chosen = torch.zeros(3, 4, 4)
    chosen[0, 1:3, 1:3] = 1  # a square: 8 edges of 4 * 2
    chosen[1, 0, 0], chosen[1, 0, 2], chosen[1, 2, 2], chosen[1, 2, 0] = 1, 1, 1, 1  # 2 + 3 + 4 + 3 of 8
    chosen[2] = 1  # the view's own edge is free
    assert raggedness(chosen).tolist() == [1.0, 1.5, 0.0]


def test_swaps_keep_the_area_and_leave_what_is_kept() -> None:
    chosen, free = torch.zeros(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)
    chosen[0], free[3] = True, False
    gain = torch.arange(16.0).view(4, 4)
    swapped = swapped_cells(chosen, free, gain, 0.25, 0.0, torch.Generator().manual_seed(0))
    expected = chosen.clone()
    expected[0, 0], expected[2, 3] = False, True  # the least promising goes, the most promising free one comes
    assert torch.equal(swapped, expected)
    for seed in range(20):
        again = swapped_cells(chosen, free, gain, 1.0, 1.0, torch.Generator().manual_seed(seed))
        assert again.sum() == 4
        assert not again[3].any()


def test_what_is_kept_is_kept_while_searching(faces: Faces, recognizer: WhiteBox) -> None:
    keep = [[0.0, 0.0, 1.0, 0.5]]
    scores = search(faces, recognizer, Grey(), {"random": blind}, 0.25, 10, protect=keep, repaints=20, mixes=2)
    assert (scores[:, :5] < 1).all()
    assert (scores > 1).sum(dim=(1, 2)).tolist() == [25] * 4


def test_single_pixels(faces: Faces, recognizer: WhiteBox) -> None:
    scores = search(faces, recognizer, Grey(), {"random": blind}, 0.25, None, repaints=6, mixes=1)
    assert scores.shape == view(faces.images)[:, 0].shape
    assert (scores > 1).sum(dim=(1, 2)).tolist() == [400] * 4


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"repaints": 2}, r"masker.repaints must pay for draws x \(starts \+ mixes\) = 3, .* got repaints=2"),
        ({"draws": 0}, r"masker.draws must be at least 1, got 0"),
        ({"swap": 0.0}, r"masker.swap must be in \(0, 1\], .* got swap=0.0"),
        ({"mixes": -1}, r"masker.mixes, .* at least 0, got .* mixes=-1"),
        ({"holes": -1.0}, r"masker.holes at least 0, got .* holes=-1.0"),
        ({"starts": {}}, r"there must be a start, got .* 0 starts"),
    ],
)
def test_knobs_are_checked(knobs: dict, message: str, faces: Faces, recognizer: WhiteBox) -> None:
    with pytest.raises(InputError, match=message):
        search(
            faces, recognizer, **{"repaint": Grey(), "starts": {"random": blind}, "ratio": 0.25, "cells": 10, **knobs}
        )


def test_another_ratio_scores_no_start_again(
    faces: Faces, recognizer: WhiteBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def masker(ratio: float, *knobs: str) -> Callable[[Faces, WhiteBox], Scores]:
        config = compose_config("masker=search", f"ratio={ratio}", f"cache={tmp_path}", "masker.repaints=3", *knobs)
        starts = {"integrated_gradients": config.masker["starts"]["integrated_gradients"]}
        config.masker["starts"] = starts
        return asking_masker(config, Grey, lambda: pytest.fail("asked"))

    fresh = masker(0.5, "cache_scores=false")(faces, recognizer)
    monkeypatch.setattr("veil.maskers.cached.WORTH", 0)
    masker(0.25)(faces, recognizer)
    monkeypatch.setattr("veil.maskers.gradient.evidence", lambda *_: pytest.fail("scored again"))
    torch.testing.assert_close(masker(0.5)(faces, recognizer), fresh, rtol=0, atol=0)
