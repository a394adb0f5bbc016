"""Veil from Python is the command line's."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import veil
from veil.config import Config
from veil.errors import InputError
from veil.tasks.anonymize import anonymize


@pytest.fixture
def knobs(cache: str, tmp_path: Path) -> dict[str, Any]:
    return {
        "cache": cache,
        "outputs": str(tmp_path / "a place, with = in its name"),
        "judges": "none",
        "controls": "none",
        "trainer": "cpu",
        "attacks": "none",
        "split.gallery": 0.6,
        "split.attackers": 0.0,
    }


def test_a_set_is_made_and_evaluated(photos: Path, knobs: dict[str, Any]) -> None:
    made = veil.anonymize(photos, masker="random", inpainter="fill", ratio=0.5, **knobs)
    assert len(made.rows()) == 12
    stamp = (made.path / "probes" / "manifest.csv").stat().st_mtime_ns
    results = veil.evaluate(photos, masker="random", inpainter="fill", ratio=0.5, **knobs)
    assert (made.path / "probes" / "manifest.csv").stat().st_mtime_ns == stamp
    assert results.figures["check/coverage"].value == 0.5
    (written,) = made.path.glob("evaluation-*/metrics.json")
    assert json.loads(written.read_text())["figures"]["utility/ssim"]["value"] == results.figures["utility/ssim"].value


def test_python_needs_no_lightning_and_paints_the_same(
    photos: Path, knobs: dict[str, Any], tmp_path: Path, small_run: Callable[..., Config]
) -> None:
    choices = {"masker": "saliency", "inpainter": "telea", "batch_size": 5}
    veil.anonymize(photos, ratio=0.5, **choices, **knobs)  # fits the classifier
    asked = f"import sys, veil; veil.anonymize({str(photos)!r}, ratio=0.25, **{choices | knobs!r})"
    told = subprocess.run(
        [sys.executable, "-c", f"{asked}; print('loaded', *sys.modules)"], capture_output=True, text=True, check=True
    ).stdout
    loaded = told.splitlines()[-1].split()
    assert loaded[0] == "loaded"
    assert not {"pytorch_lightning", "torchmetrics", "diffusers"} & set(loaded)
    made = anonymize(small_run("masker=saliency", "ratio=0.25", "attacks=none"))
    again = veil.anonymize(photos, ratio=0.25, **choices, **knobs)
    assert made.name == again.path.name
    for folder in ("results", "masks"):
        for path in (made / "probes" / folder).iterdir():
            with Image.open(path) as one, Image.open(again.path / "probes" / folder / path.name) as other:
                assert one.tobytes() == other.tobytes()


def test_scores_are_the_maskers(photos: Path, knobs: dict[str, Any]) -> None:
    found = veil.scores(photos, masker="random", inpainter="fill", **knobs)
    made = veil.anonymize(photos, masker="random", inpainter="fill", ratio=0.5, **knobs)
    assert found.keys() == made.rows().keys()
    for key, row in made.rows().items():
        with Image.open(made.path / row["mask"]) as mask:
            masked = np.array(mask)[48:208, 48:208] > 0  # the view
        cells = masked.reshape(16, 10, 16, 10).all(axis=(1, 3))
        scores = found[key].numpy()
        assert scores.shape == (16, 16)
        assert scores[cells].min() >= scores[~cells].max()


def test_what_the_command_line_refuses_is_refused(photos: Path, knobs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"ratio is the share of the view to repaint, in \(0, 1\], got 25"):
        veil.anonymize(photos, ratio=25, **knobs)
    with pytest.raises(InputError, match=r"colour is no knob of these choices .* got 'red'"):
        veil.anonymize(photos, colour="red", **knobs)
    with pytest.raises(InputError, match=r"data\.root must be a folder or a zip"):
        veil.anonymize(photos / "nowhere", inpainter="fill", masker="random", **knobs)
    with pytest.raises(InputError, match="photos must be a folder"):
        veil.scores("")
    with pytest.raises(InputError, match="task is the function that is called, got 'verify'"):
        veil.anonymize(photos, task="verify")
    with pytest.raises(InputError, match="nonsense"):
        veil.anonymize(photos, masker="nonsense", **knobs)
    with pytest.raises(AttributeError, match="has no attribute 'anonymise'"):
        _ = veil.anonymise
