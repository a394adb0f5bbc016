"""Two runs of a sweep on the same probes, by hand."""

from pathlib import Path
from typing import Any

import pytest

from veil.evaluation.results import Results
from veil.metrics.identification import RANKS
from veil.metrics.intervals import Interval
from veil.metrics.measure import Figure, by_name
from veil.report.sweep import paired_rows
from veil.storage.folders import write_manifest


def run(folder: Path, masker: str, ratio: float, named: list[float]) -> dict[str, Any]:
    folder.mkdir()
    rows = [{"key": str(i), "label": i // 2, "privacy/dlib/rank1": value} for i, value in enumerate(named)]
    write_manifest(folder, rows)
    figure = Figure(RANKS[1], Interval(0.5, 0.4, 0.6, 12), "dlib", "naive")
    results = Results(by_name([figure]))
    alike = {"data": "att", "recognizer": "facenet", "inpainter": "fill", "seed": 0}
    return {**alike, "masker": masker, "ratio": ratio, "folder": str(folder), "results": results}


def test_runs_that_differ_in_the_masker_alone_are_compared(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / "a", "random", 0.25, [1.0] * 12),
        run(tmp_path / "b", "saliency", 0.25, [0.0, 1.0] * 6),
        run(tmp_path / "c", "saliency", 0.5, [0.0] * 12),
    ]
    (row,) = paired_rows(runs)
    assert (row["figure"], row["first"], row["second"], row["n"]) == ("privacy/dlib/rank1", "random", "saliency", 12)
    assert row["difference"] == row["low"] == row["high"] == -0.5  # every person loses one of two
    assert row["p"] == pytest.approx(2 / 1001)
    assert row["p_mcnemar"] == pytest.approx(2 * 0.5**6)
