"""What leaves the machine."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from veil.config import Config
from veil.report.knobs import flat
from veil.report.loggers import publish
from veil.storage.folders import RunFolder
from veil.tasks.evaluate import evaluate
from veil.tasks.finetune import finetune


def test_flat_names_leaves_by_their_path() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a/b": 1, "a/c/d": [2], "e": None}


@pytest.mark.parametrize("originals", [False, True])
def test_wandb_gets_figures_and_pictures_but_originals_only_when_asked(
    small_run: Callable[..., Config], originals: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run("masker=random")
    done = evaluate(config)
    config = small_run("masker=random", "logger=wandb", f"logger.originals={originals}")
    images: dict[str, list[str]] = {}
    metrics: dict[str, Any] = {}
    log_image, log_metrics = WandbLogger.log_image, WandbLogger.log_metrics

    def note_images(self: WandbLogger, key: str, paths: list[Any], **kwargs: Any) -> None:
        images[key] = paths
        log_image(self, key, paths, **kwargs)

    def note_metrics(self: WandbLogger, values: Any, step: int | None = None) -> None:
        metrics.update(values)
        log_metrics(self, values, step)

    monkeypatch.setattr(WandbLogger, "log_image", note_images)
    monkeypatch.setattr(WandbLogger, "log_metrics", note_metrics)
    logger = instantiate(config.logger)(name="test")
    run = logger.experiment
    publish(logger, RunFolder(config.outputs, done.relative_to(config.outputs), asdict(config)))
    assert set(images) == {"pictures/result"} | ({"pictures/original"} if originals else set())  # masks identify, too
    assert set(metrics) >= {f"privacy/facenet/fooled/{part}" for part in ("value", "low", "high", "n")}
    assert run.offline
    assert run.job_type == "evaluate"
    assert run.config["masker/centre_bias"] == 1.0
    assert list((tmp_path / "outputs" / "wandb").glob("offline-run-*/*.wandb"))


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


def test_no_path_and_no_name_reaches_wandb(small_run: Callable[..., Config], photos: Path, tmp_path: Path) -> None:
    """Everything that was written for W&B, as bytes."""
    private = tmp_path / "Private_Folder"
    shutil.copytree(photos, private)
    Image.new("L", (92, 112)).save(private / "s1" / "nobody.png")  # no face: a flag names the photo
    (private / "s1").rename(private / "Alice_Smith")
    where = (f"data.root={private}", "masker=random", "inpainter=fill", "attacks=none", "logger=wandb")
    done = evaluate(small_run(*where))
    told = (done / "metrics.json").read_text()
    assert "Alice_Smith" in told
    (log,) = (tmp_path / "outputs" / "wandb").glob("offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"no face" in content  # the flag's kind
    for secret in ("Alice_Smith", "Private_Folder", str(tmp_path)):
        assert secret.encode() not in content


def test_csv_logger_writes_the_figures(small_run: Callable[..., Config], tmp_path: Path) -> None:
    evaluate(small_run("masker=random"))
    (table,) = (tmp_path / "outputs" / "csv").rglob("metrics.csv")
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["check/coverage/value"]) == 0.25
