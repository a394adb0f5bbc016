"""The task `photos` as its user runs it."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from album_photos import ROOM, party, save
from conftest import ROOT, compose_config, plugin
from PIL import Image

import veil
from veil.config import Config
from veil.errors import InputError
from veil.tasks.photos import covered_album
from veil.tasks.photos import photos as cover

Album = Callable[..., Config]


@pytest.fixture
def album(cache: str, tmp_path: Path) -> Album:
    """Configs of quick albums of `in`."""
    save(tmp_path / "in/a.png", party((40, 60, 120), (330, 90, 150)))
    save(tmp_path / "in/trip/b.jpg", ROOM)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("no photo")

    def config(*overrides: str, output: str = "out") -> Config:
        return compose_config("task=photos", *knobs(tmp_path / "in", tmp_path / output, cache), *overrides)

    return config


def knobs(input: Path, output: Path, cache: str) -> list[str]:
    return [
        f"input={input}",
        f"output={output}",
        f"cache={cache}",
        "trainer=cpu",
        "logger=csv",
        "recognizer=eigenfaces",
        "judges=none",
        "inpainter=telea",
        "detector._target_=album_photos.make_stub",
    ]


def test_an_album_and_its_report(album: Album, tmp_path: Path) -> None:
    folder = cover(album("until=null"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "veil-report"]
    before, after = (np.array(Image.open(tmp_path / place / "a.png")) for place in ("in", "out"))
    assert (before[100:160, 370:450] != after[100:160, 370:450]).any(axis=2).mean() > 0.3
    assert (before[300:] == after[300:]).all()
    with (folder / "faces.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["action"], row["tries"]) for row in rows] == [("a.png", "repaint", "1")] * 2
    assert rows[0].keys() >= {"cosine/eigenfaces", "recognised", "ratio", "person"}
    with (folder / "photos.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "skipped"]
    page = (folder / "index.html").read_text()
    assert page.count("<img") == 2  # no face as it was
    assert "no face found" in page
    assert "trip/b.jpg" in page


def test_faces_as_they_were_are_shown_when_asked_for(album: Album) -> None:
    assert (cover(album("until=null", "task.originals=true")) / "index.html").read_text().count("<img") == 4


def test_a_face_that_no_repaint_hides_ends_with_an_exit_code_and_is_covered(album: Album, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2 of 2 faces are covered whole, as no repaint hid them"):
        cover(album("until=0.01", "inpainter=none", "tries=2"))
    after = np.array(Image.open(tmp_path / "out/a.png"))
    assert len(np.unique(after[120:180, 360:450].reshape(-1, 3), axis=0)) < 200  # a few blocks


def test_python_does_the_same(album: Album, tmp_path: Path, cache: str) -> None:
    cover(album("until=null"))
    asked = {"recognizer": "eigenfaces", "judges": "none", "inpainter": "telea", "cache": cache, "trainer": "cpu"}
    summary = veil.photos(
        tmp_path / "in", tmp_path / "python", until=None, **asked, **{"detector._target_": "album_photos.make_stub"}
    )
    assert summary.faces == 2
    assert (tmp_path / "python/a.png").read_bytes() == (tmp_path / "out/a.png").read_bytes()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["output=null"], "output must be a new folder"),
        (["input=null"], "input must name photos"),
        (["input={in}/../empty"], "input must hold photos or videos, got none .*1 x suffix .txt"),
        (["until=0.5"], "until is a false acceptance rate"),
        (["until=1e-4"], "until=0.0001 needs more people in data=att"),
        (["tries=0"], "tries is how often"),
        (["on_no_face=drop"], "on_no_face must be one of"),
        (["engine=spark"], "engine must be one of"),
        (["task.doubtful=leave"], "task.doubtful must be one of"),
        (["task.sure=2"], "task.sure is a confidence"),
        (["surrogates=dlib"], "surrogates must be none"),
        (["hide_at_far=1e-3"], "hide_at_far must be null"),
        (["protect=[eyes]"], "protect leaves no room for the ratio to grow"),
        (["until=null", "masker=mean_map"], "masker=mean_map takes maps of labelled people"),
        (["until=null", "spare={in}/trip"], "spare must hold photos of one face each, got 0 in b.jpg"),
    ],
)
def test_what_cannot_be_begun_is_refused_by_name(album: Album, tmp_path: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        covered_album(album(*(word.replace("{in}", str(tmp_path / "in")) for word in overrides)))


def test_an_output_of_something_else_is_left_alone(album: Album, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="output must be a new or empty folder"):
        covered_album(album("until=null"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="output must be a folder"):
        covered_album(album("until=null", output="file"))
    covered_album(album("until=null", output="other"))
    with pytest.raises(InputError, match=r"made otherwise \(it differs in ratio"):
        covered_album(album("until=null", "ratio=0.5", output="other"))


def thousand(folder: Path, count: int = 1000) -> None:
    """Small photos, each of one face."""
    for number in range(count):
        person, photo, shift = number % 40 + 1, number // 40 % 10 + 1, number // 400
        save(
            folder / f"{number % 10}/{number:04d}.png",
            party((60 + shift, 30, 80), person=person, photo=photo)[:150, :200],
        )


def start(input: Path, output: Path, cache: str, *own: str) -> subprocess.Popen[bytes]:
    quick = ["until=null", "inpainter=fill", "masker=whole_face", *own]
    command = [sys.executable, "run.py", "task=photos", *knobs(input, output, cache), *quick]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    with output.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.*")
        if "veil-report" not in path.parts
    }


def memory(process: subprocess.Popen[bytes]) -> int:
    """Peak bytes that a running process had."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_photos_killed_ten_times(cache: str, tmp_path: Path) -> None:
    """Nothing is lost, nothing twice, and memory does not grow with the album."""
    thousand(tmp_path / "in")
    process, peaks = start(tmp_path / "in", tmp_path / "whole", cache), {}
    while process.poll() is None:
        done = sum(1 for _ in (tmp_path / "whole").glob("?/*.png"))
        for mark in (200, 900):
            if done >= mark and mark not in peaks:
                peaks[mark] = memory(process)
        time.sleep(0.05)
    assert process.returncode == 0, (tmp_path / "whole.log").read_text()
    print("peak bytes", peaks)
    assert peaks[900] < 1.05 * peaks[200]
    generator, kept = random.Random(0), dict[str, int]()
    for _ in range(10):
        process = start(tmp_path / "in", tmp_path / "killed", f"{cache}-killed")
        begun, wanted = time.monotonic(), len(kept) + generator.randint(1, 100)
        while process.poll() is None and time.monotonic() - begun < 120:
            if sum(1 for _ in (tmp_path / "killed").glob("?/*.png")) >= wanted:
                break
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in files(tmp_path / "killed")}
        again = [name for name, at in kept.items() if now[name] != at]
        assert len(again) <= 1  # written, but not noted yet
        kept = now
    assert start(tmp_path / "in", tmp_path / "killed", f"{cache}-killed").wait() == 0
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ray_makes_what_this_process_makes(cache: str, tmp_path: Path) -> None:
    plugin("launcher=ray")
    thousand(tmp_path / "in", 60)
    for engine in ("local", "ray"):
        process = start(tmp_path / "in", tmp_path / engine, f"{cache}-{engine}", f"engine={engine}")
        assert process.wait() == 0, (tmp_path / f"{engine}.log").read_text()
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    tables = [(tmp_path / engine / "veil-report/faces.csv").read_text() for engine in ("local", "ray")]
    assert tables[0] == tables[1]
