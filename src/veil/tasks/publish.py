"""Log runs: a logger is opened when work begins, and whatever it fails at costs no result."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from veil.config import Config
from veil.report.loggers import close, log_config, publish, publish_sweep
from veil.report.published import logged_at, note
from veil.report.tracking import VeilWandb, connection, failures, first_line, say
from veil.storage.fingerprint import digest
from veil.storage.folders import ASKED, RunFolder
from veil.storage.progress import Stages
from veil.tasks.fit import is_helper


@contextmanager
def tracked(
    config: Config, run: RunFolder, name: str, stages: Stages | None = None, *, publishes: bool = True
) -> Iterator[Logger | None]:
    """An open logger, told how far the work inside is; the finished run is logged afterwards, and that noted.

    Yields None in a helper process, or where no logger can be opened. Work that fails ends its run as failed.

    Args:
        publishes: whether the work ends with `metrics.json`.

    """
    logger: Logger | None = None
    if not is_helper():
        with _forgiven():
            logger = _opened(config, run, name)
    if stages is not None and isinstance(logger, VeilWandb):
        stages.listeners.append(logger.live)
    try:
        yield logger
    except BaseException:
        if logger is not None:
            with _forgiven():
                close(logger, failed=True)
        raise
    if logger is not None:
        with _forgiven():
            if publishes:
                publish(logger, run)
            told = close(logger)
            if publishes:
                note(run.path, config.logger, told)


def log_found(config: Config, run: RunFolder, name: str) -> None:
    """Log a finished run that this logger has not got yet, or that had to stay offline and need not any more."""
    before = logged_at(run.path, config.logger)
    if before is None or (before.get("again") and not connection()[1]):
        with tracked(config, run, name):
            pass


def log_sweep(config: DictConfig, folder: Path) -> None:
    """Log a sweep's table and pictures as one W&B run in its group.

    Args:
        config: what Hydra hands to a callback.
        folder: the sweep's own.

    """
    if not (folder / "summary.csv").exists():  # no run has ended well
        return
    make = instantiate(config.logger)
    group = group_of(folder)
    with _forgiven():
        logger = make(name=group, id=group, group=group, job_type="sweep")
        publish_sweep(logger, folder)
        close(logger)


def sweep_group() -> str | None:
    """What the sweep is called, in a multirun."""
    hydra = HydraConfig.get()
    return group_of(Path(hydra.sweep.dir)) if hydra.mode == RunMode.MULTIRUN else None


def group_of(sweep: Path) -> str:
    """What the sweep of this folder is called: the same sweep again has the same name."""
    group: str = json.loads((sweep / ASKED).read_text())["group"]
    return group


def _opened(config: Config, run: RunFolder, name: str) -> Logger:
    """The logger of `config.logger`, which knows the config."""
    make = instantiate(config.logger)
    address = [run.path.relative_to(run.outputs).as_posix(), run.parts]
    logger: Logger = make(name=name, id=digest(address, 8), group=sweep_group(), job_type=config.choices.task)
    log_config(logger, run.config)
    return logger


@contextmanager
def _forgiven() -> Iterator[None]:
    """Say in a line what a logger fails at."""
    try:
        yield
    except failures() as error:
        say(f"not logged, for {first_line(error)}. Results are kept; the same command tries again")
