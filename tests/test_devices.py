"""One run on several devices, here two processes on the CPU: what is found is what one device finds."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from veil.config import Config
from veil.data.faces import FaceSet
from veil.errors import InputError
from veil.storage.folders import Row, read_manifest
from veil.storage.progress import Stages
from veil.tasks.anonymize import anonymize
from veil.tasks.devices import Take, alone, only, share, spread
from veil.tasks.evaluate import evaluate
from veil.tasks.finetune import finetune
from veil.tasks.setup import devices_of
from veil.tasks.train_inpainter import train_inpainter

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
CPUS = [torch.device("cpu")] * 2


def some(count: int) -> FaceSet:
    return FaceSet([Path()] * count, [str(key) for key in range(count)], [0] * count, list(range(count)), 0)


def noted(faces: FaceSet) -> list[Row]:
    return [{"key": key, "process": os.getpid(), "threads": torch.get_num_threads()} for key in faces.keys]


def find(config: Config, faces: FaceSet, take: Take) -> dict[str, float]:
    """Work that says who did it."""
    for start in range(0, len(faces), config.batch_size):
        take(noted(faces.select(range(start, min(start + config.batch_size, len(faces))))))
    assert config.trainer["devices"] == 1
    return {"look": float(len(faces))}


def refuse(config: Config, faces: FaceSet, take: Take) -> dict[str, float]:
    if "0" in faces.keys:
        raise InputError("a knob must be another, got this")
    return find(config, faces, take)


def fail(config: Config, faces: FaceSet, take: Take) -> dict[str, float]:
    return {"look": 1 / 0}


def die(config: Config, faces: FaceSet, take: Take) -> dict[str, float]:
    if "0" in faces.keys:
        os.kill(os.getpid(), signal.SIGKILL)
    return find(config, faces, take)


class Refused(OSError):
    """As hubs have them: pickle cannot make it again."""

    def __init__(self, message: str, *, response: int) -> None:
        super().__init__(message)


def ask_a_hub(config: Config, faces: FaceSet, take: Take) -> dict[str, float]:
    raise Refused("401: the model is gated", response=401)


def fill_the_disk(config: Config, faces: FaceSet, take: Take) -> dict[str, float]:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/1.png")


def leave(config: Config, faces: FaceSet, take: Take) -> dict[str, float]:
    if "0" in faces.keys:
        sys.exit(0)
    return find(config, faces, take)


@pytest.fixture
def found(small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Row]]:
    """The rows of some work on 7 faces in batches of 2."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def rows(work: Any, stages: Stages | None = None, count: int = 7) -> list[Row]:
        kept: list[Row] = []
        config = small_run("batch_size=2", *TWO)
        spread(config, CPUS, work, some(count), kept.extend, lambda _: None, stages or Stages())
        return kept

    return rows


def test_which_devices_there_are(small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_of(small_run(*TWO)) == CPUS
    assert devices_of(small_run(*TWO, "trainer.devices=-1")) == CPUS[:1]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    gpus = [torch.device("cuda", index) for index in range(4)]
    assert devices_of(small_run("trainer=ddp", "trainer.accelerator=cuda")) == gpus
    assert devices_of(small_run("trainer=ddp", "trainer.accelerator=cuda", "trainer.devices=2")) == gpus[:2]
    assert devices_of(alone(small_run("trainer=ddp", "trainer.accelerator=cuda"))) == gpus[:1]
    with pytest.raises(InputError, match=r"trainer.devices must be in \[1, 4\], .* or -1 for all, got 5"):
        devices_of(small_run("trainer=ddp", "trainer.accelerator=cuda", "trainer.devices=5"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=r"trainer.accelerator must be auto or cpu where .* no GPU, got gpu"):
        devices_of(small_run("trainer=ddp", "trainer.accelerator=gpu"))
    with pytest.raises(InputError, match=r"trainer.accelerator must be one of .*, got 'tpu'"):
        devices_of(small_run("trainer=ddp", "trainer.accelerator=tpu"))
    for wrong in (0, -2):
        with pytest.raises(InputError, match=rf"trainer.devices must be at least 1, got {wrong}"):
            devices_of(small_run(*TWO, f"trainer.devices={wrong}"))


def test_several_processes_of_the_cpu_are_had_where_they_are_asked_for_alone(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    four = ("trainer=ddp", "trainer.devices=4")
    told = r"trainer.devices must be 1, or -1 for all, where torch finds no GPU, got 4; trainer.accelerator=cpu takes 4"
    for task in (anonymize, evaluate, finetune, train_inpainter):
        name = task.__module__.rpartition(".")[2]
        with pytest.raises(InputError, match=told):
            task(small_run(f"task={name}", *four))
    assert devices_of(small_run(*four, "trainer.accelerator=cpu")) == [torch.device("cpu")] * 4
    assert devices_of(small_run("trainer=ddp")) == [torch.device("cpu")]


def test_a_process_sees_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert only(torch.device("cuda", 3)) == {"CUDA_VISIBLE_DEVICES": "3"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7f")
    assert only(torch.device("cuda", 1)) == {"CUDA_VISIBLE_DEVICES": "GPU-7f"}
    assert only(torch.device("cpu")) == {}


def test_shares_are_the_batches_of_one_device() -> None:
    parts = [share(some(11), 2, number, 3).keys for number in range(3)]
    assert parts == [["0", "1", "6", "7"], ["2", "3", "8", "9"], ["4", "5", "10"]]


def test_each_face_is_done_once_by_one_of_two_processes(found: Callable[..., list[Row]]) -> None:
    stages = Stages()
    rows = found(find, stages)
    assert sorted(row["key"] for row in rows) == list("0123456")
    owners = {row["key"]: row["process"] for row in rows}
    assert owners["0"] == owners["1"] == owners["4"] == owners["5"] != owners["2"] == owners["3"] == owners["6"]
    assert os.getpid() not in owners.values()
    assert {row["threads"] for row in rows} == {max(torch.get_num_threads() // 2, 1)}
    assert stages.seconds == {"look": 3.5}  # the mean of 4 and 3


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [
        (refuse, InputError, r"^a knob must be another, got this$"),
        (die, InputError, r"^trainer: the process of a device was killed by signal 9 .* goes on from there$"),
        (leave, InputError, r"^trainer: the process of a device left its work with code 0; what is done is kept"),
        (ask_a_hub, InputError, r"^401: the model is gated$"),
        (fill_the_disk, OSError, r"^\[Errno 28\] No space left on device: 'results/1.png'$"),
        (fail, RuntimeError, r"^ZeroDivisionError: division by zero\n\nIn a device's process:\nTraceback"),
    ],
)
def test_what_ends_a_process_ends_the_run(
    found: Callable[..., list[Row]], work: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        found(work)


def pictures(run: Path) -> dict[str, bytes]:
    """The files of a set's roles with their manifests, and its samples, by name."""
    files = [path for pattern in ("*/*/*.png", "*s/manifest.csv", "samples.png") for path in run.parent.glob(pattern)]
    return {str(path.relative_to(run.parent)): path.read_bytes() for path in files}


def told(run: Path) -> dict[str, Any]:
    """What `metrics.json` says, but for times and the command."""
    measured = json.loads((run / "metrics.json").read_text())
    return {name: part for name, part in measured.items() if name not in ("timings", "command")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "knobs",
    [
        ("masker=random", "recognizer=eigenfaces", "inpainter=fill", "attacks=none"),
        ("masker=saliency", "batch_size=4", "judges=default", "workers=2"),
    ],
    ids=["quick", "all"],
)
def test_two_devices_find_what_one_finds(
    knobs: tuple[str, ...], small_run: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("batch_size=5", *knobs)
    one = evaluate(small_run(*few, outputs="one"))
    two = evaluate(small_run(*few, *TWO, outputs="two"))
    assert one.relative_to(one.parents[5]) == two.relative_to(two.parents[5])  # at the same address
    assert pictures(one) == pictures(two) != {}
    assert told(one) == told(two)
    timings = json.loads((two / "metrics.json").read_text())["timings"]
    assert 0 < timings["mask"] + timings["inpaint"] + timings["write"] < timings["anonymize"]
    assert 0 < timings["detect"] + timings["measure"] < timings["evaluate"]
    manifests = [{row["key"]: row for row in read_manifest(run)} for run in (one, two)]
    assert manifests[0] == manifests[1]
    capsys.readouterr()
    assert evaluate(small_run(*few, *TWO, outputs="one")) == one
    assert evaluate(small_run(*few, outputs="two")) == two
    assert capsys.readouterr().out.count("Found the finished run") == 2


@pytest.fixture
def start(photos: Path, cache: str, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Slow runs of the command line on two devices, each in a process group of its own."""

    def popen() -> subprocess.Popen[str]:
        where = ["data=folder", f"data.root={photos}", f"cache={cache}", f"outputs={tmp_path / 'outputs'}"]
        few = ["task=anonymize", "attacks=none", "split.gallery=0.6", "split.attackers=0", "cache_scores=false"]
        slow = ["recognizer=eigenfaces", "masker=random", "inpainter=fill", "inpainter._target_=slow_inpainter.slowly"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
        return subprocess.Popen(
            [sys.executable, "run.py", *where, *few, *slow, "batch_size=1", "logger=csv", *TWO],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return popen


def done(outputs: Path) -> list[str]:
    """The keys of the probes that are noted as done, of a run that goes."""
    lines = [line for path in outputs.rglob("journal.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line)["key"] for line in lines]


def of_group(group: int) -> list[int]:
    """The processes of a group, but for those that have ended."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return [int(stat[2]) for stat in stats if int(stat[2]) == group and stat[0] != "Z"]


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("stop", "code", "said"),
    [
        ("terminal", 130, "Stopped: what is done is kept"),
        ("scheduler", 143, "Stopped: what is done is kept"),
        ("worker", 1, "error: trainer: the process of a device was killed by signal 9"),
        ("parent", -9, ""),
    ],
)
def test_what_is_done_is_kept_whatever_ends_a_run(
    stop: str, code: int, said: str, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = start()
    while len(done(tmp_path)) < 2:
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    if stop == "terminal":
        os.killpg(run.pid, signal.SIGINT)  # Ctrl-C reaches every process
    elif stop == "scheduler":
        os.kill(run.pid, signal.SIGTERM)
    else:
        os.kill(children(run.pid)[0] if stop == "worker" else run.pid, signal.SIGKILL)
    _, err = run.communicate(timeout=600)
    assert run.returncode == code, err
    assert said in err
    assert "Traceback" not in err
    late = time.monotonic() + (2 if stop == "parent" else 0)  # they look whether it is there
    while of_group(run.pid) and time.monotonic() < late:
        time.sleep(0.2)
    assert not of_group(run.pid)
    kept = done(tmp_path)
    assert 2 <= len(kept) == len(set(kept)) < 12
    (partial,) = tmp_path.rglob("probes.partial")
    stamps = {path.name: path.stat().st_mtime_ns for path in partial.glob("results/*")}
    again = start()
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert f"Resuming after {len(kept)} of 12 faces" in out
    rows = read_manifest(partial.with_name("probes"))
    assert len({row["key"] for row in rows}) == len(rows) == 12
    for row in rows:
        file = partial.with_name("probes") / row["result"]
        assert file.exists()
        if row["key"] in kept:
            assert file.stat().st_mtime_ns == stamps[file.name]
