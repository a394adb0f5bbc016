"""A set for others holds no originals, no names, no labels."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from veil.config import Config
from veil.errors import InputError
from veil.faces.pictures import nearly_equal
from veil.tasks.anonymize import anonymize
from veil.tasks.share import share

Configure = Callable[..., Config]
QUICK = ("masker=random", "ratio=0.5", "attacks=none", "inpainter=fill")


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return np.array(image).tobytes()


def test_a_shared_set_tells_nobody(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    output = share(small_run(*QUICK, "task=share", f"task.output={tmp_path / 'shared'}", "task.masks=true"))
    made = anonymize(small_run(*QUICK))
    with (output / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"result", "mask", "requested", "achieved"}
    assert [row["result"] for row in rows] == [f"results/{number:06d}.png" for number in range(1, 13)]
    theirs = {
        pixels(path): pixels(path.parents[1] / "masks" / path.name.replace("generated", "masks"))
        for path in (made / "probes" / "results").iterdir()
    }
    assert {pixels(output / row["result"]): pixels(output / row["mask"]) for row in rows} == theirs
    assert len(list(output.rglob("*.*"))) == 2 * 12 + 2
    people = {path.name for path in photos.iterdir()}
    told = "".join(path.read_text() for path in (output / "manifest.csv", output / "method.json"))
    assert not [word for word in (*people, str(tmp_path), "label", "seed") if word in told]
    assert json.loads((output / "method.json").read_text())["masker"] == "random"


def test_a_picture_that_shows_its_original_is_not_shared(small_run: Configure, tmp_path: Path) -> None:
    made = anonymize(small_run(*QUICK))
    first = sorted((made / "probes" / "results").iterdir())[0]
    original = made / "probes" / "original" / first.name.replace("generated", "img")
    with Image.open(original) as image:
        Image.fromarray(np.array(image) // 2 * 2).save(first)  # nearly
    output = share(small_run(*QUICK, "task=share", f"task.output={tmp_path / 'shared'}"))
    assert len(list((output / "results").iterdir())) == 11
    assert not (output / "masks").exists()  # they were not asked for
    assert "mask" not in (output / "manifest.csv").read_text()
    with pytest.raises(InputError, match=r"all 12 results in .* equal their originals, or nearly"):
        share(small_run(*QUICK, "inpainter=none", "task=share", f"task.output={tmp_path / 'other'}"))
    assert not list(tmp_path.glob("other*"))


def test_photos_that_attacks_took_are_not_shared(small_run: Configure, tmp_path: Path) -> None:
    knobs = ("masker=random", "ratio=0.5", "inpainter=fill")
    made = anonymize(small_run(*knobs))
    assert list((made / "gallery" / "results").iterdir())  # for linkage
    output = share(small_run(*knobs, "task=share", f"task.output={tmp_path / 'shared'}"))
    assert len(list((output / "results").iterdir())) == len(list((made / "probes" / "results").iterdir())) == 12


def photo(seed: int = 0) -> np.ndarray:
    """A smooth picture of its own."""
    rough = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((256, 256), Image.Resampling.BICUBIC))


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_a_copy_is_nearly_equal_and_a_blurred_or_repainted_picture_is_not() -> None:
    original = photo()
    for copy in (original, jpeg(original, 75), jpeg(original, 50), (original * 0.9 + 5).astype(np.uint8)):
        assert nearly_equal(original, copy)
    blurred = np.asarray(Image.fromarray(original).filter(ImageFilter.GaussianBlur(12)))
    assert not nearly_equal(original, blurred)
    assert not nearly_equal(original, photo(1))
    mask = np.zeros((256, 256), np.uint8)
    mask[100:140, 100:140] = 255
    painted = original.copy()
    painted[mask > 0] = 255 - painted[mask > 0]
    assert not nearly_equal(original, painted, mask)
    assert nearly_equal(original, original, mask)
    mask[:] = 0
    mask[128, 128] = 255  # next to nothing is masked
    assert nearly_equal(original, np.where(mask[..., None] > 0, 255 - original, original), mask)


def test_the_original_of_another_photo_is_not_shared(small_run: Configure, tmp_path: Path) -> None:
    made = anonymize(small_run(*QUICK))
    results = sorted((made / "probes" / "results").iterdir())
    other = results[1].name.replace("generated", "img")
    shutil.copy(made / "probes" / "original" / other, results[0])
    output = share(small_run(*QUICK, "task=share", f"task.output={tmp_path / 'shared'}"))
    assert len(list((output / "results").iterdir())) == 11


def test_an_output_that_is_there_is_refused(small_run: Configure, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task\.output must be a new folder, got "):
        share(small_run("task=share", f"task.output={tmp_path}"))
