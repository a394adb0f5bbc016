"""Pictures that another tool made are evaluated as they are."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from veil.anonymization.matching import match
from veil.config import Config
from veil.errors import InputError
from veil.tasks.evaluate import evaluate
from veil.types import CROP

Configure = Callable[..., Config]


def figures(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())["figures"]


def tool(photos: Path, out: Path, change: Callable[[np.ndarray], np.ndarray], suffix: str = ".png") -> Path:
    """What a tool would write: the photos, changed, in the same folders."""
    for path in photos.rglob("*.pgm"):
        place = out / path.relative_to(photos).with_suffix(suffix)
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), change(cv2.imread(str(path))))
    return out


def test_pictures_that_change_nothing_are_what_no_inpainter_leaves(
    small_run: Configure, photos: Path, tmp_path: Path
) -> None:
    same = tool(photos, tmp_path / "same", lambda photo: photo)
    ours = figures(evaluate(small_run("inpainter=none", "split.attackers=0.34")))
    folder = evaluate(small_run(f"anonymized={same}", "split.attackers=0.34"))
    theirs = figures(folder)
    assert theirs["privacy/facenet/cosine"]["value"] == pytest.approx(1)
    for name in ("rank1", "bits", "linkage/rank1", "source_enrolled/rank1"):
        assert theirs[f"privacy/facenet/{name}"]["value"] == pytest.approx(ours[f"privacy/facenet/{name}"]["value"])
    assert theirs["privacy/worst/rank1"]["source"] == "privacy/facenet/source_enrolled/rank1".replace(
        "source_enrolled/", ""
    )
    assert theirs["check/coverage"]["absent"] == theirs["utility/psnr_masked"]["absent"] == "the set has no masks"
    assert "no white box" in theirs["privacy/transfer_gap"]["absent"]
    assert evaluate(small_run(f"anonymized={same}", "split.attackers=0.34")) == folder
    page = (folder / "report.html").read_text()
    assert "same + another tool on folder</h1>" in page
    assert "Of these pictures: the worst attack" in page


def test_a_picture_of_another_size_is_cut_where_the_originals_face_is(
    small_run: Configure, photos: Path, tmp_path: Path
) -> None:
    """The upper half black: no detector finds these faces; doubled pixels, so that nothing else changes."""

    def half_black(photo: np.ndarray) -> np.ndarray:
        photo[: len(photo) // 2] = 0
        return photo.repeat(2, axis=0).repeat(2, axis=1)

    out = tool(photos, tmp_path / "doubled", half_black)
    folder = evaluate(small_run(f"anonymized={out}", "attacks=none"))
    assert figures(folder)["privacy/facenet/cosine"]["value"] < 0.7
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        result, original = (cv2.imread(str(folder / row[kind])).astype(int) for kind in ("result", "original"))
        assert result.shape == (CROP, CROP, 3)
        assert result[:64].max() == 0
        assert np.array_equal(result[192:], original[192:])


def test_what_is_missing_is_counted_and_attacks_that_need_it_are_absent(
    small_run: Configure, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clear = evaluate(small_run("inpainter=none"))
    with (clear / "manifest.csv").open(newline="") as file:
        keys = [row["key"] for row in csv.DictReader(file)]
    out = tmp_path / "some"
    for number, key in enumerate(keys[:9]):
        photo = cv2.imread(str(photos / f"{key}.pgm"))
        place = out / "run" / "1" / f"{key}.png"  # deeper than the photos
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), photo if number else photo[:50])
    cv2.imwrite(str(out / "contact_sheet.png"), np.zeros((9, 9, 3), np.uint8))
    folder = evaluate(small_run(f"anonymized={out}"))
    found, contents = figures(folder), json.loads((folder / "metrics.json").read_text())
    assert found["privacy/facenet/rank1"]["n"] == 8
    assert "no anonymised picture of" in found["privacy/facenet/linkage/rank1"]["absent"]
    (flag,) = (flag["text"] for flag in contents["flags"] if flag["kind"] == "pictures are missing")
    assert "4 of 12 probes have no anonymised picture" in flag
    notes = json.loads((folder.parent / "notes.json").read_text())
    assert notes["unmatched"] == ["contact_sheet.png"]
    assert set(notes["missing"]) == {*keys[9:], keys[0]}
    assert "other proportions" in notes["refused"][keys[0]]
    assert "9 pictures, 1 of no photo, 1 refused; 4 of 12 probes have none" in " ".join(capsys.readouterr().out.split())


def test_crops_and_a_list_of_them(small_run: Configure, tmp_path: Path) -> None:
    ours = evaluate(small_run("masker=random", "inpainter=fill", "ratio=0.5", "attacks=none"))
    with (ours / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = tmp_path / "list.csv"
    listed.write_text("key,path\n" + "".join(f"{row['key']},{(ours / row['result']).resolve()}\n" for row in rows))
    theirs = figures(evaluate(small_run(f"anonymized={listed}", "anonymized_as=crops", "attacks=none")))
    for name in ("privacy/facenet/cosine", "utility/ssim"):
        assert theirs[name]["value"] == pytest.approx(figures(ours)[name]["value"])
    (ours / rows[0]["result"]).write_bytes(
        (ours / rows[1]["result"]).read_bytes()
    )  # the list is the same, not what it lists
    again = figures(evaluate(small_run(f"anonymized={listed}", "anonymized_as=crops", "attacks=none")))
    assert again["privacy/facenet/cosine"]["value"] < theirs["privacy/facenet/cosine"]["value"]


def test_pictures_of_nobody_and_two_of_one_photo_are_refused(small_run: Configure, tmp_path: Path) -> None:
    for place in ("a/s1/1.png", "b/s1/1.png"):
        (tmp_path / "two" / place).parent.mkdir(parents=True)
        (tmp_path / "two" / place).touch()
    with pytest.raises(InputError, match=r"several pictures are of 's1/1': .*a/s1/1\.png"):
        match(tmp_path / "two", ["s1/1"])
    with pytest.raises(InputError, match=r"none of 2 pictures in .* is of a photo .* for example s9/1\.png"):
        match(tmp_path / "two", ["s9/1"])
    for text in ("key\ns1/1\n", "key,path\ns1/1\n", "key,path\ns1/1,a.png\ns1/1,b.png\n", "key,path\n\xff,a\n"):
        (tmp_path / "wrong.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(
            InputError,
            match=r"columns key and path|longer or shorter|several pictures are of 's1/1'|must be text in UTF-8",
        ):
            match(tmp_path / "wrong.csv", ["s1/1"])
    for wrong in (tmp_path / "nowhere", tmp_path / "two" / "a" / "s1" / "1.png"):
        with pytest.raises(InputError, match=r"anonymized must be a folder of pictures, or a \.csv"):
            match(wrong, ["s1/1"])
    with pytest.raises(InputError, match=r"anonymized must be a folder of pictures"):
        evaluate(small_run(f"anonymized={tmp_path / 'nowhere'}"))
