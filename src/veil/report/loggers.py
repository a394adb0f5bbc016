"""Loggers: where a finished run's figures and pictures go. Clear photos stay here unless asked for by name."""

import csv
import netrc
import os
from pathlib import Path
from urllib.parse import urlparse

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from veil.evaluation.results import read_results
from veil.faces.pictures import nearly_equal, read_pixels
from veil.report.knobs import flat, without_paths
from veil.storage.folders import Row, RunFolder, read_manifest
from veil.storage.progress import console

IMAGES = 8  # of each kind that are logged


class VeilWandb(WandbLogger):
    """A WandbLogger that says whether clear photos, and masks, may be logged."""

    originals: bool = False
    masks: bool = False


def wandb_logger(
    name: str, project: str, group: str, job_type: str, save_dir: str, originals: bool = False, masks: bool = False
) -> WandbLogger:
    """Weights & Biases; offline unless the user is logged in or WANDB_MODE says otherwise."""
    import wandb

    Path(save_dir).mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    run = wandb.init(
        name=name,
        project=project,
        group=Path(group).name,  # a sweep's folder
        job_type=job_type,
        dir=save_dir,
        mode=mode,  # type: ignore[arg-type]
        # without what it gathers by itself: what is printed, the command line, folders, names of machine and user
        settings=wandb.Settings(silent=True, console="off", x_disable_meta=True, disable_git=True, disable_code=True),
    )
    logger = VeilWandb(experiment=run)
    logger.originals, logger.masks = originals, masks
    return logger


def csv_logger(name: str, save_dir: str, originals: bool = False, masks: bool = False) -> CSVLogger:
    """Lightning's CSV logger, in `<save_dir>/csv/<name>`."""
    return CSVLogger(Path(save_dir, "csv"), name=name)


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return path.exists() and netrc.netrc(str(path)).authenticators(host) is not None


def publish(logger: Logger, run: RunFolder) -> None:
    """Log a complete run: flat config without paths, every figure with its interval, results, and what else the logger
    may have; then finish.
    """
    results = read_results(run.path)
    knobs = without_paths(flat(run.config))
    if knobs.get("anonymized"):
        knobs["choices/masker"] = "another tool"  # else its folder's name
    logger.log_hyperparams(knobs)
    figures = {name: figure.interval._asdict() for name, figure in results.measured.items()}
    logger.log_metrics(flat(figures) | {"flags": len(results.flags)})
    if isinstance(logger, VeilWandb):
        _log_pictures(logger, run)
        logger.experiment.summary["flags"] = [flag.kind for flag in results.flags]  # a sentence may name a person
        _log_confusions(logger, run)
    logger.finalize("success")
    if isinstance(logger, WandbLogger):
        experiment = logger.experiment
        experiment.finish()
        place = f"wandb sync {Path(experiment.dir).parent}" if experiment.offline else experiment.url
        console.print(f"W&B:      {place}", soft_wrap=True)


def _log_pictures(logger: VeilWandb, run: RunFolder) -> None:
    rows = read_manifest(run.path)
    if not rows:
        return
    shown = rows[:: max(len(rows) // IMAGES, 1)][:IMAGES]
    for kind in ("result", *(["mask"] if logger.masks else []), *(["original"] if logger.originals else [])):
        private = not logger.originals and kind == "result"
        chosen = [row for row in shown if row[kind] and not (private and _shows_its_original(run.path, row))]
        paths = [str(run.path / row[kind]) for row in chosen]
        if paths:
            logger.log_image(f"pictures/{kind}", paths)  # no names


def _shows_its_original(folder: Path, row: Row) -> bool:
    mask = read_pixels(folder / row["mask"])[..., 0] if row["mask"] else None
    return nearly_equal(read_pixels(folder / row["original"]), read_pixels(folder / row["result"]), mask)


def _log_confusions(logger: VeilWandb, run: RunFolder) -> None:
    """Who is mistaken for whom, by number: no photos, no names."""
    confusions = run.path / "confusions.csv"
    if confusions.exists():
        with confusions.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = ["label", "probes", "accuracy", "taken_for_label", "times"]
        logger.log_table("confusions", columns, [[row[column] for column in columns] for row in rows])
