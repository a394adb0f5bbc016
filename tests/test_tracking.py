"""What leaves the machine."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from wandb_file import OfflineRun, offline_runs

from veil.config import Config
from veil.evaluation.results import read_results
from veil.report.knobs import PATH, PLACES, flat, without_paths
from veil.report.names import logged_names
from veil.storage.folders import read_manifest
from veil.tasks.evaluate import evaluate
from veil.tasks.finetune import finetune


def test_flat_names_leaves_by_their_path() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a/b": 1, "a/c/d": [2], "e": None}


@pytest.mark.parametrize("asked", [False, True])
def test_the_offline_file_holds_everything_but_originals_names_and_paths(
    asked: bool, small_run: Callable[..., Config], photos: Path, tmp_path: Path
) -> None:
    """What was written for W&B, read back: figures, config, pictures, the table of faces."""
    private = tmp_path / "Private_Folder"
    shutil.copytree(photos, private)
    (private / "s1").rename(private / "Alice_Smith")
    Image.new("L", (92, 112)).save(private / "Alice_Smith" / "nobody.png")  # no face: a flag names the photo
    knobs = (f"data.root={private}", "masker=random", "judges=default", "logger=wandb", "logger.masks=true")
    config = small_run(*knobs, "inpainter=telea", "ratio=0.5", f"logger.originals={asked}")
    done = evaluate(config)
    assert "Alice_Smith" in (done / "metrics.json").read_text()
    (run,) = offline_runs(Path(config.outputs))
    results = read_results(done)

    expected = flat({name: figure.interval._asdict() for name, figure in results.measured.items()})
    assert len(expected) > 100
    for name, logged in logged_names(expected).items():
        assert re.fullmatch(r"[_a-zA-Z][_a-zA-Z0-9/]*", logged)
        assert run.history[logged] == [pytest.approx(expected[name])]
        assert run.summary[logged] == pytest.approx(expected[name])
    kinds = sorted({flag.kind for flag in results.flags})
    assert run.summary["flag_kinds"] == kinds
    assert run.summary["flags"] == len(kinds) < len(results.flags)
    contents = OmegaConf.to_container(OmegaConf.load(done / "config.yaml"))
    assert isinstance(contents, dict)
    for name, value in flat(contents).items():
        logged = run.config[logged_names(flat(contents))[name]]
        assert logged == (value if name.rpartition("/")[2] not in PLACES or value is None else PATH) or logged == PATH
    assert run.config["ratio"] == 0.5
    assert run.config["masker/centre_bias"] == 1.0
    assert run.config["data/root"] == PATH

    last = {step["live/stage"]: step for step in run.steps if "live/stage" in step}
    assert last["anonymize"]["live/faces_done"] == last["evaluate"]["live/faces_done"] == 12
    assert last["evaluate"]["live/utility/ssim"] == pytest.approx(results.figures["utility/ssim"].value)
    assert last["evaluate"]["live/faces_a_second"] > 0

    table, rows = run.table("faces"), read_manifest(done)
    kinds = ("result", "mask", "original") if asked else ("result", "mask")
    assert [row["person"] for row in table] == [row["label"] for row in rows]
    for shown, row in zip(table, rows, strict=True):
        for column in ("privacy/facenet/cosine", "privacy/dlib/rank1", "privacy/facenet/linkage/rank1"):
            assert shown[column] == pytest.approx(row[column])
        for kind in kinds:
            with Image.open(shown[kind]) as logged, Image.open(done / row[kind]) as ours:
                assert np.array_equal(np.array(logged.convert("RGB")), np.array(ours.convert("RGB")))
        assert ("original" in shown) == asked

    shots = [*(run.folder / "files").rglob("*.png"), *(row[kind] for row in table for kind in kinds)]
    assert len(shots) > 30
    pictures = {content(path) for path in shots}
    originals = {content(done / row["original"]) for row in rows}
    assert (originals <= pictures) if asked else not (originals & pictures)
    (artifact,) = [record.artifact for record in run.records if record.artifact.type == "results"]
    assert json.loads(artifact.metadata)["set"] == done.parent.name
    files = run.artifact(f"results-{run.run.run_id}")
    found = json.loads(files["metrics.json"].read_text())
    assert found["figures"] == json.loads((done / "metrics.json").read_text())["figures"]
    with files["manifest.csv"].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert not {"key", "person", "predicted", "predicted_clear", "original", "mask", "result", "seed"} & set(lines[0])
    assert [int(line["label"]) for line in lines] == [row["label"] for row in rows]
    assert run.run.host == "private"
    for part in sent(run):
        for secret in ("Alice_Smith", "Private_Folder", str(tmp_path), f"{Path.home()}/"):
            assert secret.encode() not in part


def content(path: Path) -> bytes:
    with Image.open(path) as image:
        return np.array(image.convert("RGB")).tobytes()


def sent(run: OfflineRun) -> Iterator[bytes]:
    """Everything that `wandb sync` sends, as bytes."""
    for record in run.records:
        for entry in record.artifact.manifest.contents if record.HasField("artifact") else ():
            yield Path(entry.local_path).read_bytes()
            entry.local_path = ""  # where the file is taken from is not sent
        yield record.SerializeToString()
    for path in (run.folder / "files").rglob("*"):
        if path.is_file():
            yield str(path.relative_to(run.folder)).encode() + path.read_bytes()


def test_wandb_gets_the_learning_curve_and_who_is_mistaken_for_whom_without_names(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: set[str] = set()
    tables: dict[str, list[str]] = {}
    monkeypatch.setattr(WandbLogger, "log_metrics", lambda self, metrics, step=None: noted.update(metrics))
    monkeypatch.setattr(WandbLogger, "log_table", lambda self, key, columns, data: tables.update({key: columns}))
    monkeypatch.setattr(WandbLogger, "log_image", lambda *args: pytest.fail("a picture"))
    finetune(small_run("task=finetune", "classifier.epochs=2", "logger=wandb"))
    assert noted >= {"train/loss", "val/loss", "val/accuracy", "train/seconds", "everybody/facenet/accuracy/value"}
    assert tables == {"confusions": ["label", "probes", "accuracy", "taken_for_label", "times"]}


def test_csv_logger_writes_the_figures(small_run: Callable[..., Config], tmp_path: Path) -> None:
    evaluate(small_run("masker=random"))
    (table,) = (tmp_path / "outputs" / "csv").rglob("metrics.csv")
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["check/coverage/value"]) == 0.25


def test_a_long_text_is_no_path_and_a_choice_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "att").mkdir()
    knobs = {"inpainter/prompt": "a face " * 60, "choices/data": "att", "masker/place": "att"}
    assert without_paths(knobs) == knobs | {"masker/place": PATH}
