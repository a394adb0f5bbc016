"""The search tries masks out: what it returns is never worse than where it starts, and costs what it may."""

import pytest
import torch
from torch.nn import functional as F

from veil.config import InputError
from veil.maskers.budget import budget
from veil.maskers.random import random_patches
from veil.maskers.search import raggedness, search, swapped_cells
from veil.recognizers.whitebox import WhiteBox
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
            search(faces, recognizer, Grey(), starts, 0.25, 10, repaints=repaints, holes=0.0, patience=100),
            faces,
            recognizer,
        )
        for repaints in (3, 30, 100)
    }
    started = torch.stack([likeness(start(faces, recognizer), faces, recognizer) for start in starts.values()])
    torch.testing.assert_close(found[3], started.amin(dim=0))
    assert (found[30] < found[3]).all()
    assert (found[100] <= found[30]).all()


def test_it_repaints_as_often_as_it_may_and_stops_where_nothing_helps(faces: Faces, recognizer: WhiteBox) -> None:
    paint = Grey()
    search(faces, recognizer, paint, {"random": blind}, 0.25, 10, repaints=12, patience=100)
    assert paint.batches == [4] * 12
    paint = Grey()
    search(faces, recognizer, paint, {"random": blind}, 0.25, 10, repaints=13, draws=3, patience=100)
    assert paint.batches == [4] * (1 + 3 * 3)  # the whole view once, three masks
    paint = Grey()
    search(faces, recognizer, paint, {"random": blind}, 1.0, 10, repaints=100, patience=2)
    assert paint.batches == [4] * 4  # no cell is left to swap: whole view, start, two vain tries


def test_surrogates_have_a_say(faces: Faces, recognizer: WhiteBox) -> None:
    centroids = F.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(7)), dim=1)
    other = WhiteBox(recognizer.recognizer, recognizer.head, centroids)
    both = WhiteBox(recognizer.recognizer, recognizer.head, recognizer.centroids, [other])
    options = {"repaints": 60, "holes": 0.0, "patience": 60}
    alone, together = (search(faces, box, Grey(), {"random": blind}, 0.25, 10, **options) for box in (recognizer, both))
    assert (likeness(together, faces, other) <= likeness(alone, faces, other)).sum() >= 3
    assert (likeness(alone, faces, recognizer) <= likeness(together, faces, recognizer)).sum() >= 3


def test_a_price_on_the_border_makes_whole_masks(faces: Faces, recognizer: WhiteBox) -> None:
    def border(holes: float) -> torch.Tensor:
        scores = search(
            faces, recognizer, Grey(), {"random": blind}, 0.25, 10, repaints=60, holes=holes, patience=100, noise=1.0
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
    scores = search(faces, recognizer, Grey(), {"random": blind}, 0.25, 10, keep=keep, repaints=20)
    assert (scores[:, :5] < 1).all()
    assert (scores > 1).sum(dim=(1, 2)).tolist() == [25] * 4


def test_single_pixels(faces: Faces, recognizer: WhiteBox) -> None:
    scores = search(faces, recognizer, Grey(), {"random": blind}, 0.25, None, repaints=6)
    assert scores.shape == view(faces.images)[:, 0].shape
    assert (scores > 1).sum(dim=(1, 2)).tolist() == [400] * 4


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"repaints": 1}, r"masker.repaints must pay for draws x \(1 \+ starts\) = 2, .* got repaints=1"),
        ({"draws": 0}, r"masker.draws must be at least 1, got 0"),
        ({"swap": 0.0}, r"masker.swap must be in \(0, 1\], .* got swap=0.0"),
        ({"holes": -1.0}, r"masker.holes at least 0, got .* holes=-1.0"),
        ({"starts": {}}, r"there must be a start, got .* 0 starts"),
    ],
)
def test_knobs_are_checked(knobs: dict, message: str, faces: Faces, recognizer: WhiteBox) -> None:
    with pytest.raises(InputError, match=message):
        search(
            faces, recognizer, **{"repaint": Grey(), "starts": {"random": blind}, "ratio": 0.25, "cells": 10, **knobs}
        )
