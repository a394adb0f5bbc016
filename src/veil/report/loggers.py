"""Loggers: where a finished run's figures and pictures go. Clear photos stay here unless asked for by name."""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger

from veil.evaluation.results import read_results
from veil.report.artifacts import log_artifacts
from veil.report.knobs import flat, without_paths
from veil.report.names import logged_name, logged_names
from veil.report.shown import log_faces, log_pictures
from veil.report.tracking import VeilWandb, say
from veil.storage.folders import RunFolder

ANOTHER = "another tool"


def csv_logger(
    name: str,
    id: str,
    group: str | None,
    job_type: str,
    save_dir: str,
    originals: bool = False,
) -> CSVLogger:
    """Lightning's CSV logger, in `<save_dir>/csv/<name>`; figures alone: `originals` is for the page."""
    return CSVLogger(Path(save_dir, "csv"), name=name)


def log_config(logger: Logger, config: Mapping[str, Any]) -> None:
    """Log a flat config without paths."""
    knobs = without_paths(flat(config))
    if knobs.get("anonymized"):
        knobs["choices/masker"] = ANOTHER  # else its folder's name
    logger.log_hyperparams(knobs)


def publish(logger: Logger, run: RunFolder) -> None:
    """Log what a complete run found: every figure with its interval, results, and what else the logger may have."""
    results = read_results(run.path)
    figures = {name: figure.interval._asdict() for name, figure in results.measured.items()}
    ratio = {"ratio": run.config["ratio"]} if run.config.get("ratio") else {}  # across, in W&B's curves
    logger.log_metrics(flat(figures) | ratio | {"flags": len(results.flag_kinds)})
    if isinstance(logger, VeilWandb):
        log_pictures(logger, run.path)
        log_faces(logger, run.path, results)
        logger.experiment.summary["flag_kinds"] = results.flag_kinds
        _log_confusions(logger, run)
        log_artifacts(logger, run, results)


def publish_sweep(logger: VeilWandb, folder: Path) -> None:
    """Log the table over a sweep's runs, and its pictures: no folder, no sentence of a flag, no path."""
    import wandb

    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name not in ("folders", "flags")]
    figures = {f"{name}{end}" for name in columns if f"{name}/low" in columns for end in ("", "/low", "/high", "/n")}
    table = wandb.Table(columns=list(logged_names(columns).values()))
    for row in rows:
        table.add_data(*(_number(row[name]) if name in figures else _setting(name, row) for name in columns))
    logger.experiment.log({"summary": table})
    if any(row["inpainter"] == ANOTHER for row in rows):  # whose folders' names are in the pictures' legends
        return
    for path in sorted(folder.glob("*.png")):
        logger.log_image(logged_name(f"pictures/{path.stem}"), [str(path)])


def _number(text: str) -> float | None:
    return float(text) if text else None


def _setting(name: str, row: Mapping[str, str]) -> float | str:
    """A choice with its knobs, or a knob, without the paths among them."""
    if name == "masker" and row["inpainter"] == ANOTHER:
        return ANOTHER  # else its folder's name
    with suppress(ValueError):
        return float(row[name])
    parts = (part.rpartition("=") for part in row[name].split(" "))
    return " ".join(knob + equals + str(without_paths({"": value})[""]) for knob, equals, value in parts)


def close(logger: Logger, *, failed: bool = False) -> dict[str, Any]:
    """Finish, so that the next run of this process is another one. What `published.json` keeps of it."""
    logger.finalize("failed" if failed else "success")
    if not isinstance(logger, VeilWandb):
        return {}
    logger.experiment.finish(exit_code=int(failed))
    if not failed:
        say(logger.place)
    return {"again": bool(logger.again)}


def _log_confusions(logger: VeilWandb, run: RunFolder) -> None:
    """Who is mistaken for whom, by number: no photos, no names."""
    confusions = run.path / "confusions.csv"
    if confusions.exists():
        with confusions.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = ["label", "probes", "accuracy", "taken_for_label", "times"]
        logger.log_table("confusions", columns, [[row[column] for column in columns] for row in rows])
