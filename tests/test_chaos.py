"""Sweeps that are killed at random moments end as one that is left alone."""

import fcntl
import glob
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, plugin

from veil.storage.folders import read_manifest

KILLS = 10
RATIOS = [round(0.05 * step, 2) for step in range(1, 13)]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def start(photos: Path, cache: str) -> Start:
    """A sweep of 12 runs, in a process group of its own."""
    few = ["judges=none", "controls=none", "attacks=none", "split.gallery=0.6", "split.attackers=0", "batch_size=1"]
    quick = ["recognizer=eigenfaces", "masker=random", "inpainter=fill", "trainer=cpu", "logger=csv"]
    grid = [f"ratio={','.join(map(str, RATIOS))}", "data=folder", f"data.root={photos}", f"cache={cache}"]

    def popen(outputs: Path, *own: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "run.py", "-m", *few, *quick, *grid, f"outputs={outputs}", *own]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        with (outputs.parent / f"{outputs.name}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    return popen


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Outputs of the sweep that is left alone, and the seconds of one of its runs."""
    outputs = tmp_path_factory.mktemp("whole") / "outputs"
    process = start(outputs)
    assert process.wait() == 0
    (journal,) = outputs.glob("sweeps/*/runs.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    return outputs, (events[-1]["ended"] - events[1]["ended"]) / (len(RATIOS) - 1)


def kept(outputs: Path) -> dict[Any, Any]:
    """Of every picture that is noted as done, and every finished evaluation, the file that it is."""
    found = {}
    for probes in outputs.glob("folder/*/*/ratio=*/*/probes*"):
        ratio, journal = probes.parents[1].name, probes / "journal.jsonl"
        lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
        for row in [*map(json.loads, lines), *read_manifest(probes)]:
            (file,) = probes.parent.glob(f"probes*/{row['result']}")  # moved when the role is whole
            found[ratio, row["key"]] = _file(file)
    for metrics in outputs.glob("folder/*/*/ratio=*/*/evaluation-*/metrics.json"):
        if not metrics.parent.name.endswith(".partial"):
            found[metrics.parents[2].name] = _file(metrics)
    return found


def painted(outputs: Path) -> int:
    """How many pictures there are, or are being written."""
    return len(glob.glob(f"{outputs}/folder/*/*/ratio=*/*/probes*/results/*.png"))


def _file(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def results(outputs: Path) -> dict[str, Any]:
    """By ratio, what metrics.json says, but for times and the command; the manifest; and the pictures."""
    found = {}
    for path in sorted(outputs.glob("folder/*/*/ratio=*/*/evaluation-*/metrics.json")):
        measured = json.loads(path.read_text())
        told = {name: part for name, part in measured.items() if name not in ("timings", "command")}
        pictures = [picture.read_bytes() for picture in sorted(path.parents[1].glob("probes/*/*.png"))]
        found[path.parents[2].name] = told, read_manifest(path.parent), pictures
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("abreast", [1, 2])
def test_killed_at_ten_random_moments_it_ends_as_if_left_alone(
    abreast: int, start: Start, whole: tuple[Path, float], tmp_path: Path
) -> None:
    outputs, chance = tmp_path / "outputs", random.Random(abreast)
    known: dict[Any, Any] = {}
    sweeps = [start(outputs) for _ in range(abreast)]
    for _ in range(KILLS):
        before = painted(outputs)
        while painted(outputs) <= before:
            assert all(sweep.poll() is None for sweep in sweeps)
            time.sleep(0.05)
        time.sleep(chance.uniform(0, whole[1] / 2))  # so that the tenth comes before the end
        index = chance.randrange(abreast)
        for number, sweep in enumerate(sweeps):
            os.killpg(sweep.pid, signal.SIGKILL if number == index else signal.SIGSTOP)
        sweeps[index].wait()
        now = kept(outputs)
        assert known.items() <= now.items()  # nothing lost, nothing made again
        known = now
        sweeps[index] = start(outputs)
        for sweep in sweeps:
            os.killpg(sweep.pid, signal.SIGCONT)
    assert 0 < len(known) < len(RATIOS) * 13  # 12 probes and the evaluation of each
    assert [sweep.wait() for sweep in sweeps] == [0] * abreast
    assert known.items() <= kept(outputs).items()
    assert results(outputs) == results(whole[0])
    assert len(results(outputs)) == len(RATIOS)
    assert not list(outputs.rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ray_goes_on_where_a_worker_was_killed(start: Start, whole: tuple[Path, float], tmp_path: Path) -> None:
    plugin("launcher=ray")
    outputs, before = tmp_path / "outputs", 0
    sweep = start(outputs, "launcher=ray")
    known: dict[Any, Any] = {}
    for _ in range(3):
        while painted(outputs) <= before or not (working := owners(outputs)):
            assert sweep.poll() is None
            time.sleep(0.05)
        os.kill(working[0], signal.SIGKILL)
        time.sleep(0.1)
        before = painted(outputs)
        now = kept(outputs)
        assert known.items() <= now.items()
        known = now
    assert sweep.wait() == 0
    assert known.items() <= kept(outputs).items()
    assert results(outputs) == results(whole[0])
    assert len(results(outputs)) == len(RATIOS)


def owners(outputs: Path) -> list[int]:
    """Processes that are making a run: they hold its lock."""
    found = []
    for lock in outputs.glob(".locks/folder-*"):
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found += re.findall(r"process (\d+) on ", file.read())
    return [int(process) for process in found]
