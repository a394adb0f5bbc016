"""Sweeps: unique folders, failures at once, what Ctrl-C leaves, two at once, other launchers."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, plugin
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from many_runs import make_runs
from omegaconf import OmegaConf
from sweep_task import BATCHES

from veil.cli import flags_first
from veil.errors import InputError
from veil.evaluation.results import read_results
from veil.search import reached, refuse_hopeless
from veil.storage.locks import locked

Process = subprocess.Popen[str]


def start(outputs: Path, *overrides: str) -> Process:
    """`veil -m` of naps, in a process group of its own, as a terminal has it."""
    common = ["task._target_=sweep_task.nap", "masker=random", f"outputs={outputs}"]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "run.py", "-m", *common, *overrides],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def naps(outputs: Path) -> list[str]:
    path = outputs / "naps"
    return path.read_text().splitlines() if path.exists() else []


def every(*seeds: int) -> list[str]:
    return [f"{seed} {batch}" for seed in seeds for batch in range(BATCHES)]


def wait_for(outputs: Path, count: int, process: Process) -> None:
    while len(naps(outputs)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_failure_is_told_at_once_with_its_cause_and_progress_after_each_run(tmp_path: Path) -> None:
    process = start(tmp_path, "seed=1,13,2")
    out, err = process.communicate()
    assert process.returncode == 1
    assert "FAILED seed=13: ZeroDivisionError: no luck\n" in err
    assert err.endswith("1 of 3 runs failed:\n  seed=13: ZeroDivisionError: no luck\n")
    assert re.search(r"\[1 of 3 done, ends in \d+ (s|min)\]  seed=1\n", out)
    assert re.search(r"\[1 of 3 done, 1 failed, ends in \d+ (s|min)\]  seed=13\n", out)
    assert "[2 of 3 done, 1 failed]  seed=2\n" in out
    assert naps(tmp_path) == every(1, 2)
    (journal,) = tmp_path.glob("sweeps/*/runs.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["job"] for line in lines] == [0, 0, 1, 1, 2, 2]
    assert "sweep_task.py" in lines[3]["traceback"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_keeps_its_batch_says_what_is_left_and_goes_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = start(tmp_path, "seed=1,2,3")
    wait_for(tmp_path, BATCHES + 2, process)
    os.killpg(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in err
    assert "Stopping when this batch is kept" in err
    assert err.endswith("2 of 3 runs are left; the same command goes on with them:\n  seed=2\n  seed=3\n")
    assert naps(tmp_path) == every(1, 2)[: BATCHES + 3]  # the batch it was in, no more
    process = start(tmp_path, "seed=1,2,3")
    assert "[3 of 3 done]  seed=3" in process.communicate()[0]
    assert process.returncode == 0
    assert naps(tmp_path) == every(1, 2, 3)


def test_two_sweeps_at_once_have_folders_of_their_own_and_do_nothing_twice(tmp_path: Path) -> None:
    sweeps = [start(tmp_path, "seed=1,2,3") for _ in range(2)]
    told = [sweep.communicate()[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0]
    assert all("[3 of 3 done]" in out for out in told)
    assert "Waiting: process" in "".join(told)
    assert sorted(naps(tmp_path)) == every(1, 2, 3)
    journals = list(tmp_path.glob("sweeps/*/runs.jsonl"))
    assert [len(journal.read_text().splitlines()) for journal in journals] == [6, 6]


def test_a_folder_that_another_sweep_has_is_refused(tmp_path: Path) -> None:
    own = f"hydra.sweep.dir={tmp_path / 'mine'}"
    first = start(tmp_path, "seed=1,2,3", own)
    wait_for(tmp_path, 1, first)
    second = start(tmp_path, "seed=4,5", own)
    err = second.communicate()[1]
    assert second.returncode == 1
    assert re.search(r"error: hydra.sweep.dir: another sweep \(process \d+ on .*\) runs in .*mine\n", err)
    first.communicate()
    assert first.returncode == 0
    assert naps(tmp_path) == every(1, 2, 3)
    again = start(tmp_path, "seed=4,5", own)  # a folder that a sweep had
    assert "[2 of 2 done]" in again.communicate()[0]


def test_a_dead_owners_lock_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        f"import time, pathlib, veil.storage.locks as locks\nwith locks.locked(pathlib.Path({str(path)!r})):\n  print()"
    )
    owner = subprocess.Popen([sys.executable, "-uc", f"{code}; time.sleep(99)"], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    owner.stdout.readline()

    def kill(name: str) -> None:
        told.append(name)
        owner.kill()

    told: list[str] = []
    with locked(path, kill):
        assert told[0].startswith(f"process {owner.pid} on ")
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    with locked(path, pytest.fail):
        pass
    owner.communicate()


LAUNCHERS = ["joblib", "submitit_local", pytest.param("ray", marks=pytest.mark.slow)]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_tells_and_leaves_what_basic_does(launcher: str, tmp_path: Path) -> None:
    plugin(f"launcher={launcher}")
    process = start(tmp_path, f"launcher={launcher}", "seed=1,13,2,3")
    out, err = process.communicate()
    assert process.returncode == 1
    assert "FAILED seed=13: ZeroDivisionError: no luck\n" in err
    assert err.endswith("1 of 4 runs failed:\n  seed=13: ZeroDivisionError: no luck\n")
    assert "[3 of 4 done, 1 failed]" in out
    assert sorted(naps(tmp_path)) == every(1, 2, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_runs_go_side_by_side(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole process group, SIGTERM the process that it was sent to."""
    plugin("launcher=joblib")
    sweep = ("launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2,3,4,5,6")
    process = start(tmp_path, *sweep)
    wait_for(tmp_path, 4, process)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == 128 + number
    assert re.search(r"[456] of 6 runs are left", err)
    before = naps(tmp_path)
    time.sleep(0.5)
    assert naps(tmp_path) == before  # nobody works on
    process = start(tmp_path, *sweep)
    assert "[6 of 6 done]" in process.communicate()[0]
    assert sorted(naps(tmp_path)) == every(1, 2, 3, 4, 5, 6)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_ends_with_the_table_of_basic(launcher: str, photos: Path, cache: str, tmp_path: Path) -> None:
    plugin(f"launcher={launcher}")

    def summary(name: str) -> list[dict[str, str]]:
        few = ["judges=none", "controls=none", "attacks=none", "split.gallery=0.6", "split.attackers=0"]
        quick = ["recognizer=eigenfaces", "inpainter=fill", "trainer=cpu", "logger=csv", f"launcher={name}"]
        own = ["task._target_=veil.tasks.evaluate.evaluate", "data=folder", f"data.root={photos}", f"cache={cache}"]
        process = start(tmp_path / name, *few, *quick, *own, "ratio=0.25,0.5,25")
        assert "FAILED ratio=25: ratio is the share" in process.communicate()[1]
        (path,) = tmp_path.glob(f"{name}/sweeps/*/summary.csv")
        with path.open(newline="") as file:
            return [row | {"folders": ""} for row in csv.DictReader(file)]

    basic = summary("basic")
    assert [row["ratio"] for row in basic] == ["0.25", "0.5"]
    assert summary(launcher) == basic


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_optuna_finds_the_undominated_configs_and_the_same_ones_again(photos: Path, cache: str, tmp_path: Path) -> None:
    plugin("sweeper=optuna")
    few = ["judges=none", "controls=none", "split.gallery=0.6", "split.attackers=0", "~attacks.linkage"]
    quick = ["recognizer=eigenfaces", "inpainter=fill", "trainer=cpu", "logger=csv"]
    own = ["task._target_=veil.tasks.evaluate.evaluate", "data=folder", f"data.root={photos}", f"cache={cache}"]
    names = ("privacy/eigenfaces/cosine", "utility/ssim")
    asked = [f"objectives=[{','.join(names)}]", "hydra.sweeper.direction=[minimize,maximize]"]
    chosen = ["sweeper=optuna", "hydra.sweeper.n_trials=4", "masker=random,blobs", "ratio=interval(0.1,0.6)"]

    def sweep() -> list[tuple[float, ...]]:
        process = start(tmp_path, *few, *quick, *own, *asked, *chosen)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert "[4 done]" in out
        assert "not dominated" in out
        found = max(tmp_path.glob("sweeps/*/optimization_results.yaml"))
        with (found.parent / "summary.csv").open(newline="") as file:
            rows = [tuple(float(row[name]) for name in names) for row in csv.DictReader(file)]
        best = [one for one in rows if not any(o[0] <= one[0] and o[1] >= one[1] and o != one for o in rows)]
        solutions = {tuple(each["values"]) for each in yaml.safe_load(found.read_text())["solutions"]}
        assert solutions == set(best)
        return rows

    rows = sweep()
    assert len(set(rows)) == 4
    made = len(list(tmp_path.rglob("metrics.json")))
    assert sweep() == rows
    assert len(list(tmp_path.rglob("metrics.json"))) == made


def test_the_objectives_that_are_shipped_fit_the_directions(tmp_path: Path) -> None:
    plugin("sweeper=optuna")
    process = start(tmp_path, "sweeper=optuna", "hydra.sweeper.n_trials=2", "seed=1,2")
    err = process.communicate()[1]
    assert re.search(r"FAILED seed=\d: objectives must be figures, which this task measures none of, got", err)
    assert len(naps(tmp_path)) == BATCHES  # the first run told it


def test_a_sweeper_that_asks_for_other_than_the_objectives_is_refused(tmp_path: Path) -> None:
    plugin("sweeper=optuna")
    process = start(tmp_path, "sweeper=optuna", "objectives=[privacy/worst/bits]", "seed=1,2")
    err = process.communicate()[1]
    assert process.returncode == 1
    assert "error: objectives must name one figure for each hydra.sweeper.direction, minimize, minimize; got" in err
    assert naps(tmp_path) == []


SSIM = ("objectives=[utility/ssim]", "hydra.sweeper.direction=maximize")
CHOICE = "ratio=interval(0.1,0.7)"


def searched(outputs: Path, *asked: str) -> tuple[int, str, str]:
    """`sweeper=optuna` over runs that take no time: exit code, what is said, what goes wrong."""
    plugin("sweeper=optuna")
    process = start(outputs, "sweeper=optuna", "task._target_=sweep_task.measure", *asked)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("turned", "objectives", "told"),
    [
        ({"n_trials": 0}, ["a"], "hydra.sweeper.n_trials must be at least 1, got 0"),
        ({"n_jobs": -1}, ["a"], "hydra.sweeper.n_jobs must be at least 1, got -1"),
        ({"max_failure_rate": 0.3}, ["a"], r"hydra.sweeper.max_failure_rate must be 1\.0: .* got 0\.3"),
        ({"direction": ["up"]}, ["a"], "hydra.sweeper.direction must list minimize and maximize alone, got up"),
        ({"direction": []}, [], r"objectives must name one figure .*; got \[\]"),
        ({"direction": ["minimize", "minimize"]}, ["a", "a"], "objectives must be different figures, got"),
        ({}, ["a", "b"], "objectives must name one figure for each hydra.sweeper.direction, maximize; got"),
        ({"chosen": "ratio=0.3"}, ["a"], "must have something to choose, such as .* got ratio=0.3"),
        ({}, ["a"], ""),
        ({"params": {"ratio": "interval(0.1,0.6)"}, "chosen": "seed=1"}, ["a"], ""),
        ({"direction": None, "n_trials": 0}, [], ""),  # no sweeper that searches
    ],
)
def test_a_search_that_cannot_be_is_refused(turned: dict[str, Any], objectives: list[str], told: str) -> None:
    sweeper = {"direction": "maximize", "n_trials": 20, "n_jobs": 1, "max_failure_rate": 1.0} | turned
    task = [turned.get("chosen", CHOICE)]
    config = OmegaConf.create({"objectives": objectives, "hydra": {"sweeper": sweeper, "overrides": {"task": task}}})
    with pytest.raises(InputError, match=told) if told else nullcontext():
        refuse_hopeless(config)


def test_a_search_says_what_it_found_and_nothing_of_itself(tmp_path: Path) -> None:
    """Runs that fail or lack the figure are left out; where none is left, that is told."""
    few = (*SSIM, "hydra.sweeper.n_trials=2", f"hydra.sweeper.storage=sqlite:///{tmp_path / 'study.db'}")
    code, out, err = searched(tmp_path, *few, CHOICE)
    assert (code, err) == (0, "")
    assert not re.search("HYDRA|alembic|study|Trial|Warning", out.replace("study.db", ""))
    assert re.search(r"Best: .*optimization_results.yaml\n", out)
    assert len((tmp_path / "measured").read_text().splitlines()) == 2
    assert searched(tmp_path, *SSIM, "ratio=interval(0.7,0.1)")[::2] == (
        1,
        "error: hydra.sweeper or hydra.launcher: ValueError: The `low` value must be smaller than or equal to the "
        "`high` value (low=0.7, high=0.1). (HYDRA_FULL_ERROR=1 shows where)\n",
    )
    code, _, err = searched(tmp_path, *SSIM, "hydra.sweeper.n_trials=2", "ratio=interval(1.5,2.5)")
    assert code == 1
    first, second, none, *_ = err.splitlines()
    assert first.startswith("FAILED ratio=")
    assert second.startswith("FAILED ratio=")
    assert none.startswith("error: hydra.sweeper or hydra.launcher: ValueError: No trials are completed yet.")
    assert "2 of 2 runs failed:\n" in err


@pytest.mark.slow
def test_a_search_that_was_killed_asks_for_the_same_runs_and_makes_what_is_missing(tmp_path: Path) -> None:
    plugin("sweeper=optuna")
    four = ("sweeper=optuna", "task._target_=sweep_task.measure", *SSIM, "hydra.sweeper.n_trials=4", CHOICE)
    ratios = []
    for outputs, killed in ((tmp_path / "killed", True), (tmp_path / "whole", False)):
        measured = outputs / "measured"
        process = start(outputs, *four)
        while killed and not (measured.exists() and len(measured.read_text().splitlines()) > 1):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        if killed:
            process.kill()
            process.communicate()
            process = start(outputs, *four)
        assert "[4 done]" in process.communicate()[0]
        ratios.append(measured.read_text().splitlines())
    assert len(set(ratios[0])) == len(ratios[0]) == 4
    assert sorted(ratios[0]) == sorted(ratios[1])


def test_flags_may_stand_anywhere_in_a_command() -> None:
    words = ["masker=saliency", "-m", "ratio=0.1,0.2", "--cfg", "job", "~attacks.linkage", "+a=-1"]
    assert flags_first(words) == ["-m", "--cfg", "job", "masker=saliency", "ratio=0.1,0.2", "~attacks.linkage", "+a=-1"]


@pytest.mark.parametrize(
    ("name", "way", "told"),
    [
        (
            "privacy/worst/rank",
            "minimize",
            "objectives must be names of figures of the run, such as .*worst/rank1.*; got",
        ),
        ("utility/ssim", "minimize", "hydra.sweeper.direction must be maximize for utility/ssim, got minimize"),
    ],
)
def test_an_objective_that_no_run_has_or_that_is_pushed_the_wrong_way(
    name: str,
    way: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder,) = make_runs(tmp_path, ["random"], [0.5], people=2)
    figures = read_results(folder).figures
    asked = OmegaConf.create({"mode": RunMode.MULTIRUN, "sweeper": {"direction": ["minimize", way]}})
    monkeypatch.setattr(HydraConfig, "get", lambda: asked)
    with pytest.raises(InputError, match=told):
        reached(["privacy/worst/rank1", name], folder)
    asked.sweeper.direction = ["minimize", "maximize"]
    one, other = reached(["privacy/worst/rank1", "utility/ssim"], folder)
    assert (one, other) == (figures["privacy/worst/rank1"].value, figures["utility/ssim"].value)
    asked.sweeper.direction = ["minimize", "minimize"]
    assert reached(["privacy/worst/rank1", "privacy/worst/bits"], folder) == []
    told = "objectives: privacy/worst/bits is absent (too few people): the search goes on without this run\n"
    assert capsys.readouterr().err == told
    asked.mode = RunMode.RUN  # nobody asks
    assert reached(["privacy/worst/rank1", name], folder) == []
