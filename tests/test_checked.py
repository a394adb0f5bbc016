"""What a masker of anybody's may give back, and how it is told."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from conftest import compose_config

from veil.errors import InputError
from veil.recognizers.whitebox import WhiteBox
from veil.tasks.whitebox import asking_masker
from veil.types import Faces, Scores


def wrong(faces: Faces, recognizer: WhiteBox, kind: str) -> Any:
    fine = faces.images.mean(dim=1)
    if kind in ("nan", "inf"):
        fine[1, 0, 0] = fine[3, 2, 2] = float(kind)
    kinds = {
        "channels": faces.images,
        "one map": fine[0],
        "too few": fine[:3],
        "empty": fine[:, :, :0],
        "array": fine.numpy(),
        "whole": (255 * fine).long(),
    }
    return kinds.get(kind, fine)


def masker(kind: str, *more: str) -> Callable[[Faces, WhiteBox], Scores]:
    own = ["masker=random", "~masker.cells", "~masker.centre_bias", "masker._target_=test_checked.wrong"]

    def never() -> NoReturn:
        pytest.fail("asked")

    return asking_masker(compose_config(*own, f"+masker.kind={kind}", *more), never, never)


@pytest.mark.parametrize("cached", ["false", "true"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("'nan'", r"got NaN or infinity for 2 of 4 faces \(b first\)"),
        ("'inf'", r"got NaN or infinity for 2 of 4 faces \(b first\)"),
        ("channels", r"got shape \(4, 3, 64, 64\)"),
        ("'one map'", r"got shape \(64, 64\)"),
        ("'too few'", r"got shape \(3, 64, 64\)"),
        ("empty", r"got shape \(4, 64, 0\)"),
        ("array", "got ndarray"),
        ("whole", r"got torch\.int64"),
    ],
)
def test_a_masker_that_gives_no_scores_is_named_with_what_it_gave(
    kind: str, told: str, cached: str, faces: Faces, recognizer: WhiteBox, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    monkeypatch.setattr("veil.maskers.cached.WORTH", 0)
    message = rf"masker=random: test_checked\.wrong must give a float tensor of shape \(4, rows, columns\), .*; {told}$"
    with pytest.raises(InputError, match=message):
        masker(kind, f"cache_scores={cached}", f"cache={cache}")(faces, recognizer)


def test_what_is_right_passes_as_it_is(faces: Faces, recognizer: WhiteBox) -> None:
    assert torch.equal(masker("fine", "cache_scores=false")(faces, recognizer), faces.images.mean(dim=1))
