"""`task=report`: what many runs say together, in files."""

import csv
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, compose_config
from many_runs import NAME, make_runs
from scipy.stats import t

from veil.errors import InputError
from veil.metrics.identification import RANKS
from veil.metrics.image import PSNR
from veil.metrics.intervals import Interval
from veil.metrics.seeds import over_seeds
from veil.report.frontier import frontier, hypervolume, undominated
from veil.report.runs import candidates, find_runs, read_runs
from veil.report.tables import latex, markdown
from veil.tasks.report import report


def test_one_seed_stays_as_it_is_and_many_without_own_doubt_have_student_s_interval() -> None:
    one = Interval(0.3, 0.1, 0.6, 20)
    assert over_seeds([one], RANKS[1]) == one
    values = np.array([20.0, 22.0, 27.0, 23.0])
    found = over_seeds([Interval(value, value, value, 5) for value in values], PSNR)
    low, high = t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert found == pytest.approx((23.0, low, high, 20))


def test_more_seeds_of_the_same_people_do_not_make_them_more_people() -> None:
    alike = over_seeds([Interval(0.5, 0.3, 0.8, 20)] * 100, RANKS[1])
    assert alike == pytest.approx((0.5, 0.3, 0.8, 2000))
    assert over_seeds([Interval(0.0, 0.0, 0.3, 9), Interval(1.0, 0.7, 1.0, 9)], RANKS[1]) == (0.5, 0.0, 1.0, 18)


def test_the_interval_over_seeds_holds_the_truth_19_times_of_20() -> None:
    generator, held = np.random.default_rng(0), 0
    for _ in range(1000):
        people = generator.normal(0, 0.2)  # the same in every seed
        draws = people + generator.normal(0, 0.1, 3) + 5.0
        intervals = [Interval(value, value - 1.96 * 0.2, value + 1.96 * 0.2, 30) for value in draws]
        _, low, high, _ = over_seeds(intervals, PSNR)
        held += low <= 5.0 <= high
    assert held >= 940


def test_who_is_dominated_by_definition() -> None:
    points = np.random.default_rng(0).random((60, 2)).round(1)  # with ties
    expected = [
        not any((other >= point).all() and (other > point).any() for other in points.tolist() and points)
        for point in points
    ]
    assert undominated(points).tolist() == expected
    assert undominated(np.array([[0.5, 0.5], [0.5, 0.5]])).all()  # equals dominate nobody


def test_hypervolume_is_the_share_of_the_square_that_is_reached() -> None:
    assert hypervolume(np.array([[0.5, 0.5]])) == 0.25
    assert hypervolume(np.array([[0.2, 1.0], [1.0, 0.2], [0.1, 0.1]])) == pytest.approx(0.36)
    points, random = np.random.default_rng(1).random((8, 2)), np.random.default_rng(2).random((100_000, 2))
    reached = (random[:, None] <= points[None]).all(axis=2).any(axis=1).mean()
    assert hypervolume(points) == pytest.approx(reached, abs=0.005)


def told(*overrides: str) -> Path:
    return report(compose_config("task=report", *overrides))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_of_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas

    folders = make_runs(tmp_path / "o", ["a", "b_c"], (0.25, 0.5), seeds=(0, 1), people=6)
    output = told(f"outputs={tmp_path / 'o'}", "task.tables=true")
    assert output == tmp_path / "o" / "report"
    rows = read(output / "summary.csv")
    assert [(row["masker"], row["ratio"], row["seeds"]) for row in rows] == [
        ("a", "0.25", "2"), ("a", "0.5", "2"), ("b_c", "0.25", "2"), ("b_c", "0.5", "2")
    ]  # fmt: skip
    seeds = [json.loads((folder / "metrics.json").read_text())["figures"]["privacy/dlib/rank1"] for folder in folders]
    parts = [Interval(*(seed[name] for name in Interval._fields)) for seed in seeds[:2]]
    mean = over_seeds(parts, RANKS[1])
    assert float(rows[0]["privacy/dlib/rank1"]) == pytest.approx(np.mean([part.value for part in parts]))
    assert float(rows[0]["privacy/dlib/rank1/high"]) == pytest.approx(mean.high)
    assert len(read(output / "runs.csv")) == 8
    table = pandas.read_parquet(output / "summary.parquet")
    assert table["privacy/dlib/rank1"].tolist() == [float(row["privacy/dlib/rank1"]) for row in rows]
    assert {(row["ratio"], row["first"], row["second"], row["n"]) for row in read(output / "paired.csv")} == {
        (ratio, "a", "b_c", "24") for ratio in ("0.25", "0.5")
    }
    assert r"b\_c & 0.5 & 2" in (output / "summary.tex").read_text()
    assert "| b_c | 0.5 | 2 |" in (output / "summary.md").read_text()
    page = (output / "index.html").read_text()
    for private in (NAME, "alice", str(tmp_path)):
        assert private not in page
    front = frontier(candidates(read_runs(folders)))
    assert front is not None
    assert f"hypervolume {front.volume:.3f}" in capsys.readouterr().out


def test_another_try_of_a_config_and_seed_replaces_the_older(tmp_path: Path) -> None:
    (older,) = make_runs(tmp_path / "older", ["a"], (0.5,), people=4)
    (newer,) = make_runs(tmp_path / "newer", ["a"], (0.5,), people=5)
    os.utime(older / "metrics.json", (1, 1))
    (one,) = candidates(read_runs([newer, older]))
    assert [run.folder for run in one.runs] == [newer]


def test_a_figure_that_a_seed_lacks_is_absent(tmp_path: Path) -> None:
    folders = make_runs(tmp_path, ["a"], (0.5,), seeds=(0, 1), people=4)
    file = folders[1] / "metrics.json"
    contents = json.loads(file.read_text())
    del contents["figures"]["utility/ssim"]
    file.write_text(json.dumps(contents))
    (one,) = candidates(read_runs(folders))
    assert one.figures["utility/ssim"].absent == "measured for 1 of 2 seeds only"


def test_tables_escape_what_is_special_to_them() -> None:
    assert markdown(["a|b"], [["c"]]) == "| a\\|b |\n| --- |\n| c |\n"
    assert latex(["a_b"], [["50 % & {x} ~\\"]]).splitlines()[2:5:2] == [
        r"a\_b \\",
        r"50 \% \& \{x\} \textasciitilde{}\textbackslash{} \\",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.folders={}/nowhere"], "task.folders must name folders that hold finished runs, got .*nowhere"),
        (["task.folders=[{}]"], "task.folders must hold finished evaluations, got none in"),
        (["task.folders={}", "task.people=0"], "task.people must be at least 1, got 0"),
        (["task.folders={}", "task.pictured=-1"], "task.pictured must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_reported_is_refused(tmp_path: Path, overrides: Sequence[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        told(*(override.format(tmp_path) for override in overrides), f"task.output={tmp_path / 'page'}")
    assert not (tmp_path / "page").exists()


def test_unfinished_runs_are_not_found(tmp_path: Path) -> None:
    (folder,) = make_runs(tmp_path, ["a"], (0.5,), people=4)
    folder.rename(folder.with_name(f"{folder.name}.partial"))
    assert find_runs([tmp_path]) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_runs_are_told_in_ten_seconds_without_torch(tmp_path: Path) -> None:
    folders = make_runs(tmp_path / "o", [f"m{place}" for place in range(10)], seeds=range(20))
    assert len(folders) == 1000
    asked = "import sys; from veil.config import compose; from veil.tasks.report import report; "
    asked += f"report(compose('task=report', 'outputs={tmp_path / 'o'}')); print(open('/proc/self/status').read()); "
    asked += "print('loaded', *sys.modules)"
    took = []
    for _ in range(2):  # other processes on the same core slow the faster try less
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "50 configs are not dominated" in done.stdout
    assert not {"torch", "pandas", "pytorch_lightning"} & set(done.stdout.split("loaded")[-1].split())
    assert min(took) < 10  # of the processor, for the clock also counts what else the machine does
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert int(peak) < 2**20
