"""A set for others holds no originals, no names, no labels."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veil.config import Config
from veil.errors import InputError
from veil.tasks.anonymize import anonymize
from veil.tasks.share import share, shows_its_original

Configure = Callable[..., Config]
QUICK = ("masker=random", "ratio=0.5", "attacks=none", "inpainter=fill")


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return np.array(image).tobytes()


def test_a_shared_set_tells_nobody(small_run: Configure, photos: Path, tmp_path: Path) -> None:
    output = share(small_run(*QUICK, "task=share", f"task.output={tmp_path / 'shared'}"))
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
    with pytest.raises(InputError, match=r"all 12 results in .* equal their originals, or nearly"):
        share(small_run(*QUICK, "inpainter=none", "task=share", f"task.output={tmp_path / 'other'}"))
    assert not list(tmp_path.glob("other*"))


def test_photos_that_attacks_took_are_not_shared(small_run: Configure, tmp_path: Path) -> None:
    knobs = ("masker=random", "ratio=0.5", "inpainter=fill")
    made = anonymize(small_run(*knobs))
    assert list((made / "gallery" / "results").iterdir())  # for linkage
    output = share(small_run(*knobs, "task=share", f"task.output={tmp_path / 'shared'}"))
    assert len(list((output / "results").iterdir())) == len(list((made / "probes" / "results").iterdir())) == 12


def test_a_picture_that_was_only_compressed_is_not_shared(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    files = {"original": "original.png", "result": "result.png", "mask": None}
    Image.fromarray(pixels).save(tmp_path / "original.png")

    def near(change: float, side: int) -> bool:
        changed = pixels.astype(float)
        changed[128 : 128 + side, 128 : 128 + side] += change * np.where(pixels[:side, :side] > 127, -1, 1)
        Image.fromarray(changed.clip(0, 255).astype(np.uint8)).save(tmp_path / "result.png")
        return shows_its_original(tmp_path, files)

    assert near(0, 1)
    assert near(255, 2)  # 4 of 25,600 pixels of the view: PSNR over 40 dB
    assert not near(80, 60)


def test_an_output_that_is_there_is_refused(small_run: Configure, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task\.output must be a new folder, got "):
        share(small_run("task=share", f"task.output={tmp_path}"))
