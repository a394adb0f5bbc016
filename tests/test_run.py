"""The main job, end to end, on a few real photos with the real FaceNet."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from pytorch_lightning import Trainer
from wandb_file import offline_runs

from veil.anonymization.anonymized_set import Writer
from veil.anonymization.module import Anonymization
from veil.config import Config
from veil.errors import InputError
from veil.tasks.evaluate import evaluate
from veil.tasks.judges import other_judges
from veil.types import view_box

ROUNDING = 1e-4  # what a network's floating point may move a cosine by when the batch changes


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def figures(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def assert_same_run(one: Path, other: Path) -> None:
    """Same faces, seeds, predictions and masks; cosines equal but for rounding."""
    assert [row["key"] for row in rows(one)] == [row["key"] for row in rows(other)]
    for a, b in zip(rows(one), rows(other), strict=True):
        for exact in ("key", "person", "seed", "predicted", "predicted_clear", "found", "achieved", "result"):
            assert a[exact] == b[exact]
        for name in (name for name in a if name.startswith(("privacy", "utility"))):
            assert bool(a[name]) == bool(b[name])  # empty: the figure does not concern this face
            assert float(a[name] or 0) == pytest.approx(float(b[name] or 0), rel=1e-3, abs=ROUNDING)
    masks = [np.stack([cv2.imread(str(folder / row["mask"])) for row in rows(folder)]) for folder in (one, other)]
    assert (masks[0] != masks[1]).mean() < 1e-3
    assert figures(one)["flags"] == figures(other)["flags"]


def test_mixed_precision_is_for_masks_alone(small_run: Callable[..., Config]) -> None:
    exact, quick = (
        evaluate(small_run("masker=saliency", "ratio=0.5", f"trainer.precision={precision}"))
        for precision in ("32-true", "bf16-mixed")
    )
    assert exact != quick
    masks = [np.stack([cv2.imread(str(folder / row["mask"])) for row in rows(folder)]) for folder in (exact, quick)]
    assert 0 < (masks[0] != masks[1]).mean() < 0.1
    first, second = ([(row["key"], row["predicted_clear"]) for row in rows(folder)] for folder in (exact, quick))
    assert first == second
    for refused in (("trainer.precision=16-mixed",), ("trainer.precision=bf16-mixed", "hide_at_far=0.01")):
        with pytest.raises(InputError, match=r"trainer.precision .* must be one of .* got '(16|bf16)-mixed'"):
            evaluate(small_run("masker=saliency", *refused))


def test_a_run_folder_holds_what_it_says(small_run: Callable[..., Config]) -> None:
    folder = evaluate(small_run("masker=saliency", "ratio=0.5"))
    assert not folder.with_name(f"{folder.name}.partial").exists()
    table = rows(folder)
    assert len(table) == 12
    assert len({row["key"] for row in table}) == 12
    inside = np.zeros((256, 256), bool)
    inside[view_box(256, 256)] = True
    for row in table:
        original, mask, result = (cv2.imread(str(folder / row[kind])) for kind in ("original", "mask", "result"))
        masked = mask[..., 0] > 0
        assert masked[inside].mean() == float(row["achieved"]) == float(row["requested"]) == 0.5
        assert not masked[~inside].any()
        assert np.array_equal(original[~masked], result[~masked])
        assert row["result"].endswith(f"-generated-label-{row['label']}.png")
        with Image.open(folder / row["result"]) as image:
            assert not image.info  # no metadata
    measured = figures(folder)
    assert set(measured) >= {"figures", "measures", "flags", "faces", "command", "timings"}
    accuracy = measured["figures"]["privacy/facenet/accuracy"]
    assert accuracy["value"] == pytest.approx(np.mean([row["predicted"] == row["person"] for row in table]))
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert measured["figures"]["check/coverage"]["value"] == 0.5
    assert measured["faces"] == {
        "people": 6,
        "attackers": 0,
        "gallery": 18,
        "probes": 12,
        "not_found": [],
        "quarantined": 0,
    }
    assert cv2.imread(str(folder.parent / "samples.png")).shape[1] == 6 * 192
    assert (folder / "config.yaml").exists()


def test_what_is_kept_is_in_every_result(small_run: Callable[..., Config]) -> None:
    folder = evaluate(small_run("masker=landmarks", "protect=[eyes,[0,0,1,0.2]]", "ratio=0.25", "attacks=none"))
    for row in rows(folder):
        mask, original, result = (cv2.imread(str(folder / row[kind])) for kind in ("mask", "original", "result"))
        assert float(row["achieved"]) == 0.25
        assert not mask[48:80].any()  # the view's first 32 px
        assert np.array_equal(original[48:80], result[48:80])


def test_batch_size_and_workers_do_not_change_the_run(small_run: Callable[..., Config]) -> None:
    one = evaluate(small_run("batch_size=1", outputs="one"))
    assert_same_run(one, evaluate(small_run("batch_size=7", "workers=2", outputs="seven")))
    assert_same_run(one, evaluate(small_run("batch_size=64", outputs="all")))


def test_random_masks_do_not_depend_on_the_batch_by_a_bit(small_run: Callable[..., Config]) -> None:
    folders = [evaluate(small_run("masker=random", f"batch_size={size}", outputs=f"b{size}")) for size in (1, 7)]
    for one, other in zip(*map(rows, folders), strict=True):
        for kind in ("mask", "result", "original"):
            assert (folders[0] / one[kind]).read_bytes() == (folders[1] / other[kind]).read_bytes()


def test_an_interrupted_run_goes_on_where_it_stopped(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(small_run("batch_size=2", outputs="whole"))
    config = small_run("batch_size=2", outputs="stopped")
    calls, write = [], Writer.__call__

    def stop_in_the_third_batch(self: Writer, *args: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(self, *args)

    monkeypatch.setattr(Writer, "__call__", stop_in_the_third_batch)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        evaluate(config)
    monkeypatch.setattr(Writer, "__call__", write)
    measured: list[str] = []
    step = Anonymization.predict_step

    def note(self: Anonymization, faces: Any, index: int) -> Any:
        measured.extend(faces.keys)
        return step(self, faces, index)

    monkeypatch.setattr(Anonymization, "predict_step", note)
    resumed = evaluate(config)
    assert len(measured) == 8 + 6  # of 12 probes, of which two batches of two were done, and of the gallery for linkage
    assert_same_run(whole, resumed)
    assert figures(whole)["figures"] == figures(resumed)["figures"]


def test_a_finished_run_is_found_and_another_config_makes_another(
    small_run: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluate(small_run("masker=random"))
    stamp = (folder / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    assert evaluate(small_run("masker=random")) == folder
    assert "Found the finished run" in capsys.readouterr().out
    assert (folder / "metrics.json").stat().st_mtime_ns == stamp
    assert evaluate(small_run("masker=random", "seed=1")) != folder


def test_none_fools_nobody_and_is_flagged(small_run: Callable[..., Config]) -> None:
    measured = figures(evaluate(small_run("inpainter=none")))
    assert measured["figures"]["privacy/facenet/fooled"]["value"] == 0
    assert measured["figures"]["privacy/facenet/cosine"]["value"] == pytest.approx(1)
    assert "infinite" in measured["figures"]["utility/psnr"]["absent"]
    assert any("output equals input for 12 of 12" in flag["text"] for flag in measured["flags"])


def test_filling_nearly_everything_leaves_chance(small_run: Callable[..., Config]) -> None:
    rank1 = figures(evaluate(small_run("inpainter=fill", "ratio=0.99")))["figures"]["privacy/facenet/rank1"]
    assert rank1["low"] <= 1 / 6 <= rank1["high"]


def test_a_held_out_judge_measures_beside_the_white_box(small_run: Callable[..., Config]) -> None:
    clear = figures(evaluate(small_run("judges=default", "inpainter=none")))["figures"]
    for part in ("value", "low", "high", "n"):
        assert clear["privacy/dlib/rank1"][part] == clear["clear/dlib/rank1"][part]
    assert clear["privacy/dlib/cosine"]["value"] == pytest.approx(1, abs=1e-4)
    hidden = evaluate(small_run("judges=default", "inpainter=fill", "ratio=1"))
    measured = figures(hidden)["figures"]
    assert measured["check/dlib/fta"]["value"] == 1  # no face is left to find
    assert measured["privacy/dlib/rank1"]["low"] <= 1 / 6  # dlib looks where faces are, and sees none
    assert "own detector finds no face" in measured["privacy/dlib/rank1_found"]["absent"]
    assert {"privacy/facenet/rank1", "clear/facenet/rank1"} <= set(measured)
    assert "privacy/dlib/fooled" not in measured


def test_another_judge_looks_at_no_picture_again(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = "judges=default", "attacks=none", "masker=random"
    fresh = evaluate(small_run(*judged))
    evaluate(small_run("attacks=none", "masker=random", outputs="other"))

    def looked(*_: Any) -> None:
        raise AssertionError("a picture is measured again")

    monkeypatch.setattr("veil.evaluation.panel.face_detector", looked)
    monkeypatch.setattr("veil.metrics.image.view", looked)
    added = evaluate(small_run(*judged, outputs="other"))
    assert sorted(rows(added)[0]) == sorted(rows(fresh)[0])
    for one, other in zip(rows(added), rows(fresh), strict=True):
        assert one == other
    assert figures(added)["figures"] == figures(fresh)["figures"]
    with pytest.raises(AssertionError, match="measured again"):
        evaluate(small_run(*judged, "trainer.precision=bf16-mixed", outputs="other"))


def test_a_judge_cannot_take_the_white_boxs_name(small_run: Callable[..., Config]) -> None:
    same = small_run("+judges.facenet=${recognizer}")
    assert other_judges(same, "facenet") == {}
    assert set(other_judges(small_run("judges=default"), "facenet")) == {"dlib"}
    other = small_run("+judges.facenet._target_=veil.recognizers.facenet.FaceNet", "+judges.facenet.weights=vggface2")
    with pytest.raises(InputError, match=r"judges: `facenet` is the white box's name .* another name"):
        other_judges(other, "facenet")


def test_a_judge_that_is_the_white_box_is_flagged(small_run: Callable[..., Config]) -> None:
    measured = figures(evaluate(small_run("judges=default", "recognizer=dlib", "masker=random")))
    assert any("judge dlib is a white box" in flag["text"] for flag in measured["flags"])


@pytest.mark.slow
def test_surrogates_help_to_make_masks_and_do_not_judge(small_run: Callable[..., Config]) -> None:
    knobs = ("masker=search", "ratio=0.1", "protect=[mouth]", "attacks=none")
    alone = evaluate(small_run(*knobs))
    helped = evaluate(small_run(*knobs, "surrogates=eigenfaces"))
    assert not any("eigenfaces" in name for name in figures(helped)["figures"])
    assert [row["achieved"] for row in rows(helped)] == [row["achieved"] for row in rows(alone)]
    masks = [[(folder / row["mask"]).read_bytes() for row in rows(folder)] for folder in (alone, helped)]
    assert masks[0] != masks[1]
    judged = evaluate(small_run("masker=random", "attacks=none", "surrogates=dlib", "judges=default"))
    assert "judge is a white box" in [flag["kind"] for flag in figures(judged)["flags"]]


def test_each_face_is_masked_no_more_than_it_takes(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veil.metrics.verification.PROBED", 0)
    monkeypatch.setattr("veil.metrics.verification.SUPPORT", 0)  # 60 pairs: the threshold is the highest of them
    folder = evaluate(small_run("masker=whole_face", "ratio=0.9", "hide_at_far=0.01"))
    table, found = rows(folder), figures(folder)
    ratios = np.array([float(row["achieved"]) for row in table])
    assert (ratios <= 230 / 256).all()
    assert len(set(ratios)) > 3
    assert found["figures"]["minimal/ratio"]["value"] == pytest.approx(ratios.mean())
    assert found["figures"]["minimal/ratio_median"]["value"] == np.quantile(ratios, 0.5, method="inverted_cdf")
    hidden = np.array([float(row["minimal/hidden"]) for row in table])
    assert (ratios[hidden == 0] == 230 / 256).all()  # only a face that nothing hides keeps the most
    assert hidden.mean() > 0.5
    assert not any("coverage" in flag["kind"] for flag in found["flags"])


@pytest.mark.slow
def test_scores_are_kept_for_another_ratio(small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veil.maskers.cached.WORTH", 0)
    knobs = ("masker=saliency", "attacks=none", "seed=7")
    fresh = evaluate(small_run(*knobs, "ratio=0.5", outputs="fresh"))
    evaluate(small_run(*knobs, "cache_scores=true"))
    monkeypatch.setattr("veil.maskers.gradient.evidence", lambda *_: pytest.fail("scored again"))
    kept = evaluate(small_run(*knobs, "cache_scores=true", "ratio=0.5"))
    assert_same_run(kept, fresh)


def test_a_far_that_the_data_cannot_support_is_refused(small_run: Callable[..., Config]) -> None:
    with pytest.raises(InputError, match=r"hide_at_far must be null or one of \[\] on this data, .* got 0.001"):
        evaluate(small_run("hide_at_far=0.001"))


@pytest.mark.parametrize("devices", [0, 2])
def test_other_than_one_device_is_refused(devices: int, small_run: Callable[..., Config]) -> None:
    with pytest.raises(InputError, match=rf"trainer.devices must be 1 where .* got {devices}; trainer=ddp .*joblib"):
        evaluate(small_run(f"trainer.devices={devices}"))


def test_what_slurm_says_of_tasks_changes_nothing(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning alone would take `SLURM_NTASKS` for its own, and refuse it."""
    told = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "sweep", "SLURM_JOB_ID": "7", "SLURM_NODELIST": "node1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((RuntimeError, ValueError), match="SLURM"):
        Trainer(accelerator="cpu", devices=1, logger=False)
    folder = evaluate(small_run("masker=random", "recognizer=eigenfaces", "attacks=none"))
    assert figures(folder)["figures"]["check/coverage"]["value"] == 0.25


def test_jpeg_is_what_is_measured(small_run: Callable[..., Config]) -> None:
    folder = evaluate(small_run("image_format=jpg", "masker=random"))
    for row in rows(folder):
        assert row["result"].endswith(".jpg")
        assert row["mask"].endswith(".png")
    assert figures(folder)["figures"]["utility/psnr"]["value"] < 60


def run(*overrides: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run.py", *overrides]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **kwargs)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ratio=25", "ratio is the share of the view to repaint, in (0, 1], got 25"),
        ("ratio=abc", "'abc' of type 'str' could not be converted to Float"),
        ("masker=nope", "Could not find 'masker/nope'"),
        ("mask=saliency", "error: mask is no knob of these choices: masker or "),
        ("masker.draw=3", "error: masker.draw is no knob of these choices: masker.draws"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(override: str, message: str, tmp_path: Path) -> None:
    done = run(override, f"outputs={tmp_path / 'outputs'}", f"cache={tmp_path / 'cache'}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_truncated_photo_is_one_clear_error(photos: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "photos")
    (root / "s1" / "1.pgm").write_bytes((root / "s1" / "1.pgm").read_bytes()[:500])
    done = run("data=folder", f"data.root={root}", f"outputs={tmp_path / 'outputs'}", f"cache={tmp_path / 'cache'}")
    assert done.returncode == 1
    assert "error: data: photo 's1/1' cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "outputs").rglob("evaluation-*/metrics.json"))


def test_unwritable_outputs_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(f"outputs={tmp_path / 'file'}")
    assert done.returncode == 1
    assert re.search(f"error: outputs: {tmp_path / 'file'}.* cannot be written", done.stderr)


@pytest.mark.slow
def test_kill_9_loses_no_face_and_does_none_twice(photos: Path, cache: str, tmp_path: Path) -> None:
    common = ["data=folder", f"data.root={photos}", f"cache={cache}", "batch_size=1", "logger=csv", "split.gallery=0.2"]
    assert run(*common, f"outputs={tmp_path / 'whole'}").returncode == 0
    command = [sys.executable, "run.py", *common, f"outputs={tmp_path / 'killed'}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(len(path.read_text().splitlines()) > 4 for path in (tmp_path / "killed").rglob("journal.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").rglob("**/evaluation-*/metrics.json"))
    done = run(*common, f"outputs={tmp_path / 'killed'}")
    assert done.returncode == 0
    assert "Resuming after" in done.stdout
    folders = [next((tmp_path / name).rglob("**/evaluation-*/metrics.json")).parent for name in ("whole", "killed")]
    assert figures(folders[0])["figures"] == figures(folders[1])["figures"]
    for one, other in zip(*map(rows, folders), strict=True):
        assert one == other


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_ends_with_its_batch_and_goes_on(
    number: signal.Signals, photos: Path, cache: str, tmp_path: Path
) -> None:
    """In Lightning's loop, which has ideas of its own of signals."""
    few = ["judges=none", "controls=none", "attacks=none", "split.gallery=0.6", "split.attackers=0", "batch_size=1"]
    quick = ["recognizer=eigenfaces", "masker=random", "inpainter=fill", "trainer=cpu", "logger=csv"]
    command = [*few, *quick, "data=folder", f"data.root={photos}", f"cache={cache}", f"outputs={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "run.py", *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (journals := [path for path in tmp_path.rglob("journal.jsonl") if path.stat().st_size]):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    told = process.communicate()[1]
    assert process.returncode == 128 + number
    assert told.endswith("Stopped: what is done is kept, the same command goes on from there\n")
    assert "Traceback" not in told
    done = len(journals[0].read_text().splitlines())
    assert 1 <= done < 12
    again = run(*command)
    assert again.returncode == 0
    assert f"Resuming after {done} of 12 faces" in again.stdout


def test_a_failing_job_does_not_stop_a_sweep(photos: Path, cache: str, tmp_path: Path) -> None:
    done = run(
        "-m", "masker=random", "ratio=25,0.25,0.5", "data=folder", f"data.root={photos}", f"cache={cache}",
        "logger=wandb", f"outputs={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "FAILED ratio=25: ratio is the share" in done.stderr
    assert "1 of 3 runs failed" in done.stderr
    (sweep,) = (tmp_path / "sweeps").iterdir()
    with (sweep / "summary.csv").open(newline="") as file:
        summary = list(csv.DictReader(file))
    assert [row["ratio"] for row in summary] == ["0.25", "0.5"]
    assert all(float(row["utility/ssim/low"]) <= float(row["utility/ssim"]) for row in summary)
    assert cv2.imread(str(sweep / "frontier.png")).shape[1] > 500
    *runs, end = sorted(offline_runs(tmp_path), key=lambda run: run.run.job_type)
    assert [run.run.job_type for run in (*runs, end)] == ["evaluate", "evaluate", "sweep"]
    group = json.loads((sweep / "sweep.json").read_text())["group"]  # the same sweep again has the same
    assert {run.run.run_group for run in (*runs, end)} == {group}
    assert len({run.run.run_id for run in (*runs, end)}) == 3
    shown = end.table("summary")
    assert [row["ratio"] for row in shown] == [0.25, 0.5]
    for name in ("utility/ssim", "utility/ssim/low", "privacy/facenet/rank1"):
        assert [row[name] for row in shown] == [float(row[name]) for row in summary]
    assert not {"folder", "flags"} & set(shown[0])
    assert end.history["pictures/frontier/filenames"]
    assert str(tmp_path) not in json.dumps([shown, end.config, end.steps])


def test_a_layer_that_is_not_there_is_named_and_leaves_no_run(small_run: Callable[..., Config]) -> None:
    config = small_run("masker=gradcam", "masker.layer=nowhere")
    with pytest.raises(InputError, match=r"masker.layer must name a layer"):
        evaluate(config)
    assert not list(Path(config.outputs).rglob("evaluation-*/metrics.json"))
