"""Loggers: where a finished run's figures and pictures go. Clear photos stay here unless asked for by name."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger

from veil.evaluation.results import read_results
from veil.report.knobs import flat, without_paths
from veil.report.shown import log_faces, log_pictures
from veil.report.tracking import VeilWandb, say
from veil.storage.folders import RunFolder


def csv_logger(
    name: str,
    id: str,
    group: str | None,
    job_type: str,
    save_dir: str,
    originals: bool = False,
    masks: bool = False,
) -> CSVLogger:
    """Lightning's CSV logger, in `<save_dir>/csv/<name>`."""
    return CSVLogger(Path(save_dir, "csv"), name=name)


def log_config(logger: Logger, config: Mapping[str, Any]) -> None:
    """Log a flat config without paths."""
    knobs = without_paths(flat(config))
    if knobs.get("anonymized"):
        knobs["choices/masker"] = "another tool"  # else its folder's name
    logger.log_hyperparams(knobs)


def publish(logger: Logger, run: RunFolder) -> None:
    """Log what a complete run found: every figure with its interval, results, and what else the logger may have."""
    results = read_results(run.path)
    figures = {name: figure.interval._asdict() for name, figure in results.measured.items()}
    logger.log_metrics(flat(figures) | {"flags": len(results.flags)})
    if isinstance(logger, VeilWandb):
        log_pictures(logger, run.path)
        log_faces(logger, run.path, results)
        logger.experiment.summary["flag_kinds"] = [flag.kind for flag in results.flags]  # a sentence may name a person
        _log_confusions(logger, run)


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
