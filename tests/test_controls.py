"""Floors: the same figures as a run of that inpainter, computed once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from veil.config import Config
from veil.tasks.evaluate import evaluate


def measured(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def test_controls_are_what_a_run_of_that_inpainter_finds(small_run: Callable[..., Config], tmp_path: Path) -> None:
    own = (f"cache={tmp_path / 'cache'}", "split.attackers=0.34")
    whole = measured(evaluate(small_run(*own, "inpainter=fill", "ratio=1", "masker=random")))["figures"]
    first = measured(evaluate(small_run(*own, "controls=default")))
    for name in ("rank1", "mrr", "auc", "bits"):
        floor, run = first["figures"][f"control/fill/facenet/{name}"], whole[f"privacy/facenet/{name}"]
        for part in ("value", "low", "high", "n"):
            assert floor[part] == pytest.approx(run[part])
    assert first["figures"]["control/chance/rank1"]["value"] == 1 / 4
    assert first["figures"]["control/vae_round_trip/facenet/mrr"]["value"] > floor["value"] / 2
    assert "controls" in first["timings"]
    again = measured(evaluate(small_run(*own, "controls=default", "ratio=0.5")))
    assert "controls" not in again["timings"]
    controls = [name for name in again["figures"] if name.startswith("control/")]
    assert all(again["figures"][name] == first["figures"][name] for name in controls)
