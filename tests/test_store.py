"""A run folder is complete or it is not there."""

import errno
import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import compose_config
from omegaconf import OmegaConf

from veil.errors import InputError
from veil.storage.addresses import evaluation_folder, head_folder, set_folder
from veil.storage.folders import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path), Path("evaluate/att/seed=0-abc"), {"ratio": 0.25})


def test_the_folder_appears_when_it_is_whole(run: RunFolder) -> None:
    with run.claimed(), run.writing() as folder:
        (folder / "metrics.json").write_text('{"metrics": {}}')
        run.add([{"key": "a"}])
        assert not run.complete
    assert run.complete
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "metrics.json"]
    assert OmegaConf.load(run.path / "config.yaml") == {"ratio": 0.25}


def test_what_was_done_before_a_failure_is_kept(run: RunFolder) -> None:
    def fail() -> None:
        with run.writing():
            run.add([{"key": "a", "cosine": 0.1 + 0.2}])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not run.complete
    assert run.rows() == [{"key": "a", "cosine": 0.1 + 0.2}]


def test_a_line_cut_off_by_a_kill_is_done_again(run: RunFolder) -> None:
    run.partial.mkdir(parents=True)
    (run.partial / "journal.jsonl").write_text('{"key": "a"}\n{"key": "b", "cos')
    assert run.rows() == [{"key": "a"}]
    run.add([{"key": "b"}])
    assert [row["key"] for row in run.rows()] == ["a", "b"]


def test_one_process_makes_a_run(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Another waits, here a thread with a lock of its own, and tells for whom."""

    def second() -> None:
        with run.claimed():
            order.append("second")

    order: list[str] = []
    thread = threading.Thread(target=second)
    with run.claimed():
        thread.start()
        while not (told := capsys.readouterr().out):
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert re.fullmatch(rf"Waiting: process {os.getpid()} on .* since .* is making {run.path}\n", told)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_error(number: int, run: RunFolder) -> None:
    with pytest.raises(InputError, match=r"no space left for .*partial; what is done is kept"), run.writing():
        raise OSError(number, os.strerror(number))
    assert not run.complete
    with pytest.raises(InputError, match=r"no space left for results/1\.png; what is done is kept"), run.claimed():
        raise OSError(number, os.strerror(number), "results/1.png")


def test_outputs_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = RunFolder(str(tmp_path / "file"), Path("a"), {})
    with pytest.raises(InputError, match=r"outputs: .*file.* cannot be written"), run.claimed():
        raise AssertionError


def test_the_address_is_what_matters(tmp_path: Path) -> None:
    def place(*overrides: str, data: str = "photos") -> Path:
        config = compose_config(*overrides)
        return evaluation_folder(config, set_folder(config, data), 0).path

    base = place()
    assert str(base).startswith("outputs/att/saliency/face_diffusion/ratio=0.25/seed=0-")
    assert base.name.startswith("evaluation-")
    for same in (
        "batch_size=3",
        "workers=2",
        "logger=csv",
        "trainer=cpu",
        f"cache={tmp_path}",
        "inpainter.batch_size=2",
    ):
        assert place(same) == base
    assert place("inpainter.feather=0") == base  # 0 and 0.0
    others = ["ratio=0.5", "seed=1", "cells=8", "image_format=jpg", "inpainter.steps=5", "split.attackers=0.5"]
    others += ["trainer.precision=bf16-mixed", "masker=random", "recognizer.weights=mine.pt", "classifier.epochs=3"]
    others += ["metrics.ssim=null", "protect=[mouth]", "logger.originals=true", "inpainter.dtype=bfloat16"]
    assert len({place(other) for other in others} | {base, place(data="others")}) == len(others) + 2


def test_the_set_depends_on_nothing_that_only_measures() -> None:
    def place(*overrides: str) -> Path:
        return set_folder(compose_config(*overrides), "photos").path

    def evaluation(overrides: Sequence[str]) -> Path:
        config = compose_config(*overrides)
        return evaluation_folder(config, set_folder(config, "photos"), 0).path

    base = place()
    found = {evaluation(())}
    assert evaluation(()).parent == base
    measuring = ("judges=none", "attacks=all", "metrics=lpips", "features=inception", "controls=none", "split.probes=9")
    for same in measuring:
        assert place(same) == base
        found.add(evaluation([same]))
    assert len(found) == 1 + len(measuring)
    for other in (
        "ratio=0.5",
        "seed=1",
        "masker.blur=9",
        "inpainter.steps=5",
        "classifier.epochs=3",
        "image_format=jpg",
    ):
        assert place(other) != base


def test_the_head_depends_on_photos_recogniser_and_its_recipe_only() -> None:
    base = head_folder(compose_config(), "photos").path
    for same in ("ratio=0.5", "masker=random", "inpainter=fill", "task=finetune", "cells=8", "split.probes=9"):
        assert head_folder(compose_config(same), "photos").path == base
    for other in ("seed=1", "recognizer.weights=mine.pt", "classifier.epochs=3", "trainer.precision=bf16-mixed"):
        assert head_folder(compose_config(other), "photos").path != base
    assert head_folder(compose_config(), "others").path != base


def test_a_run_done_anew_says_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, parts in (("a", {"data": "1", "masker": {"blur": 1}}), ("b", {"data": "2", "masker": {"blur": 2}})):
        with RunFolder(str(tmp_path), Path(f"seed=0-{name}"), {}, parts).writing():
            pass
    RunFolder(str(tmp_path), Path("seed=0-c"), {}, {"data": "2", "masker": {"blur": 3}}).say_what_changed()
    assert capsys.readouterr().out == "Not done yet: seed=0-b differs in masker.blur\n"
    RunFolder(str(tmp_path), Path("elsewhere/seed=0-c"), {}, {"data": "2"}).say_what_changed()
    assert capsys.readouterr().out == ""
