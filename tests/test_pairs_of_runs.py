"""Two runs of a sweep on the same probes, by hand."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from veil.evaluation.results import Results, write_results
from veil.metrics.identification import RANKS
from veil.metrics.intervals import Interval
from veil.metrics.measure import Figure, by_name
from veil.report.compare import paired_rows
from veil.report.runs import candidates, read_runs
from veil.storage.folders import write_manifest


def run(folder: Path, masker: str, ratio: float, named: list[float], seed: int = 0, **knobs: Any) -> Path:
    folder.mkdir()
    rows = [{"key": str(i), "label": i // 2, "privacy/dlib/rank1": value} for i, value in enumerate(named)]
    write_manifest(folder, rows)
    rank1 = knobs.pop("rank1", 0.5)
    figure = Figure(RANKS[1], Interval(rank1, 0.4, 0.6, 12), "dlib", "naive")
    faces = {"people": 6, "attackers": 0, "gallery": 12, "probes": 12, "not_found": [], "quarantined": 0}
    write_results(folder, Results(by_name([figure]), [], faces, "", {}))
    choices = {"data": "att", "recognizer": "facenet", "inpainter": "fill", "masker": masker, "task": "evaluate"}
    own = {"masker": {"_target_": masker, "draws": knobs.pop("draws", 1)}, "ratio": ratio, "seed": seed, "cells": 16}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({"choices": choices, **own, **knobs}))
    return folder


def test_runs_that_differ_in_the_masker_alone_are_compared(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / "a", "random", 0.25, [1.0] * 12),
        run(tmp_path / "b", "saliency", 0.25, [0.0, 1.0] * 6),
        run(tmp_path / "c", "saliency", 0.5, [0.0] * 12),
    ]
    (row,) = paired_rows(candidates(read_runs(folders)))
    assert (row["figure"], row["first"], row["second"], row["n"]) == ("privacy/dlib/rank1", "random", "saliency", 12)
    assert row["difference"] == row["low"] == row["high"] == -0.5  # every person loses one of two
    assert row["p"] == row["p_holm"] == pytest.approx(2 / 2**6, abs=0.006)  # the sign test of six people
    assert row["p_mcnemar"] == pytest.approx(2 * 0.5**6)


def test_runs_of_one_masker_are_told_apart_by_its_knobs_and_no_other_knob_differs(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / "a", "saliency", 0.25, [1.0] * 12),
        run(tmp_path / "b", "saliency", 0.25, [0.0, 1.0] * 6, draws=20),
        run(tmp_path / "c", "saliency", 0.25, [0.0] * 12, cells=32),  # another grid: not the masker alone
        run(tmp_path / "d", "random", 0.25, [1.0] * 12, batch_size=4),  # changes no picture
    ]
    runs = read_runs(folders)
    labels = ["saliency draws=1", "saliency draws=20", "saliency draws=1", "random"]
    assert [one.settings["masker"] for one in runs] == labels
    assert [one.settings["cells"] for one in runs] == [16, 16, 32, 16]
    rows = {(row["first"], row["second"]): row for row in paired_rows(candidates(runs))}
    assert set(rows) == {
        ("saliency draws=1", "saliency draws=20"),
        ("saliency draws=1", "random"),
        ("saliency draws=20", "random"),
    }
    corrected = {pair: row["p_holm"] for pair, row in rows.items()}
    assert corrected["saliency draws=20", "random"] == pytest.approx(3 * 2 / 2**6, abs=0.02)
    assert corrected["saliency draws=1", "random"] == 1


def test_runs_of_other_probes_are_not_compared(tmp_path: Path) -> None:
    folders = [run(tmp_path / "a", "saliency", 0.25, [1.0] * 12), run(tmp_path / "b", "random", 0.25, [1.0] * 10)]
    assert paired_rows(candidates(read_runs(folders))) == []


def test_seeds_that_both_have_count_together(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / "a", "random", 0.25, [1.0] * 12),
        run(tmp_path / "b", "random", 0.25, [1.0] * 12, seed=1),
        run(tmp_path / "c", "random", 0.25, [0.0] * 12, seed=2),  # the other masker has no seed 2
        run(tmp_path / "d", "saliency", 0.25, [0.0, 1.0] * 6),
        run(tmp_path / "e", "saliency", 0.25, [1.0] * 12, seed=1),
    ]
    (row,) = paired_rows(candidates(read_runs(folders)))
    assert (row["seeds"], row["n"]) == (2, 24)
    assert row["difference"] == row["low"] == row["high"] == -0.25  # every person loses one of four


def test_of_very_many_maskers_those_that_are_named_least_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veil.report.compare.MOST", 2)
    maskers = (("a", 0.2), ("b", 0.9), ("c", 0.5))
    folders = [run(tmp_path / name, name, 0.25, [1.0] * 12, rank1=share) for name, share in maskers]
    (row,) = paired_rows(candidates(read_runs(folders)))
    assert (row["first"], row["second"]) == ("a", "c")


def test_a_folder_that_holds_no_run_of_ours_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = run(tmp_path / "a", "saliency", 0.25, [1.0] * 12)
    for name, text in (("torn", "{"), ("another", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(text)
        (tmp_path / name / "config.yaml").write_text("seed: 0")
    bare = run(tmp_path / "bare", "random", 0.25, [1.0] * 12)
    (bare / "config.yaml").unlink()
    empty = run(tmp_path / "empty", "random", 0.25, [1.0] * 12)
    (empty / "manifest.csv").write_text("")
    runs = read_runs([good, tmp_path / "torn", tmp_path / "another", bare, empty])
    assert [one.folder.name for one in runs] == ["a", "empty"]
    assert paired_rows(candidates(runs)) == []
    assert capsys.readouterr().out.count("Left out:") == 3
