"""Who is protected worst and best."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from veil.report.people import Columns, extremes, pictures, ranked

DLIB = Columns(["privacy/dlib/rank1", "privacy/dlib/linkage/rank1"], ["privacy/dlib/cosine"])


def row(label: int, rank1: float, cosine: float, linkage: float | None = None) -> dict[str, Any]:
    return {
        "label": label,
        "privacy/dlib/rank1": rank1,
        "privacy/dlib/linkage/rank1": linkage,
        "privacy/dlib/cosine": cosine,
        "privacy/facenet/rank1": 1.0,
        "clear/dlib/rank1": 1.0,
    }


def test_people_are_ordered_by_how_often_judges_name_them_then_by_cosine() -> None:
    rows = [row(0, 0.0, 0.1), row(1, 1.0, 0.4, 1.0), row(2, 0.0, 0.3), row(1, 0.0, 0.6), row(0, 0.0, 0.3)]
    people = ranked(rows, DLIB)
    assert [person.label for person in people] == [1, 2, 0]
    assert people[0][1:3] == (pytest.approx(2 / 3), 3)  # what is missing is no attempt
    assert [person.cosine for person in people] == pytest.approx([0.5, 0.3, 0.2])
    assert people[0].exposed["privacy/dlib/cosine"] == 0.4  # named twice, though less alike
    assert people[2].exposed["privacy/dlib/cosine"] == 0.3
    assert ranked(rows, Columns([], [])) == []


@pytest.mark.parametrize(("count", "worst", "best"), [(1, 1, 0), (6, 4, 2), (40, 4, 4)])
def test_nobody_is_at_both_ends(count: int, worst: int, best: int) -> None:
    people = ranked([row(label, 0.0, -label / 100) for label in range(count)], DLIB)
    ends = extremes(people)
    assert [len(end) for end in ends] == [worst, best]
    assert ends[0][0].label == 0
    if best:
        assert ends[1][0].label == count - 1
    assert not {person.label for person in ends[0]} & {person.label for person in ends[1]}


def test_originals_only_when_asked_also_where_a_result_is_one(tmp_path: Path) -> None:
    for kind, level in (("mask", 255), ("result", 100), ("original", 200)):
        image = Image.fromarray(np.full((32, 32, 3), level, np.uint8))
        image.save(tmp_path / f"{kind}.jpg", comment=b"whose it is")
    photo: dict[str, Any] = {kind: f"{kind}.jpg" for kind in ("mask", "result", "original")} | {"utility/psnr": 20.0}
    shown = pictures(tmp_path, photo | {"unchanged": False}, originals=False)
    assert set(shown) == {"mask", "result"}
    data = base64.b64decode((shown["result"] or "").removeprefix("data:image/jpeg;base64,"))
    assert b"whose it is" not in data
    assert np.array(Image.open(io.BytesIO(data))).mean() == pytest.approx(100, abs=2)
    assert set(pictures(tmp_path, photo, originals=True)) == {"mask", "result", "original"}
    unchanged = photo | {"unchanged": True}
    assert pictures(tmp_path, unchanged, originals=False)["result"] is None
    assert pictures(tmp_path, unchanged, originals=True)["result"]
    (tmp_path / "mask.jpg").unlink()
    assert pictures(tmp_path, photo, originals=False)["mask"] is None
