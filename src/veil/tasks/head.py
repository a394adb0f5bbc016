"""The white box's classifier, fitted on clear embeddings."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from pytorch_lightning.loggers import Logger
from torch import nn

from veil.config import Config
from veil.data.faces import Enrolment
from veil.evaluation.results import Results, write_results
from veil.metrics.measure import Figure, by_name
from veil.recognizers.checkpoint import split_checksum, write_checkpoint
from veil.recognizers.embed import Clear
from veil.storage.folders import Row, RunFolder, write_csv
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.tasks.fit import fit_head
from veil.training.clear import clear_figures, compared, confusions
from veil.training.curve import draw_curve, read_curve


def make_head(
    run: RunFolder,
    config: Config,
    recognizer: nn.Module,
    enrolment: Enrolment,
    clear: Clear,
    stages: Stages,
    logger: Logger | None = None,
) -> None:
    """Fit the classifier (seconds) and write the run's folder. The caller has claimed it."""
    shutil.rmtree(run.partial, ignore_errors=True)  # seconds of work: begun anew, not resumed
    with run.writing() as folder:
        both = compared(*clear, enrolment)
        head = fit_head(config, both, len(enrolment.people), folder, stages, logger)
        details = {"mode": "classifier", "base": weights_of(recognizer), "recipe": {"classifier": config.classifier}}
        figures = clear_figures(config.choices.recognizer, head, both)
        write_checkpoint(folder, head, {}, split_checksum(enrolment), figures, details)
        write_fitted(folder, figures, confusions(head, both, enrolment.people), stages)


def write_fitted(folder: Path, figures: Sequence[Figure], worst: Sequence[Row], stages: Stages) -> None:
    """Write `metrics.json`, who is mistaken for whom, and the learning curves."""
    curves = sorted(folder.glob("*/curve.csv"))  # of each stage
    epochs = {path.parent.name: [row["train/seconds"] for row in read_curve(path)] for path in curves}
    details = {
        "epochs": {stage: len(seconds) for stage, seconds in epochs.items()},
        "seconds_per_epoch": {stage: median(seconds) for stage, seconds in epochs.items()},
    }
    write_results(folder, Results(by_name(figures), timings=stages.seconds, details=details))
    write_csv(worst, folder / "confusions.csv")
    for path in curves:
        draw_curve(path).savefig(path.with_suffix(".png"), dpi=100)
        shutil.rmtree(path.parent / "checkpoints")
