"""The white box's classifier, fitted on clear embeddings."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger
from torch import nn

from veil.config import Config
from veil.data.faces import Enrolment
from veil.evaluation.results import Results, write_results
from veil.metrics.identification import Comparison
from veil.metrics.measure import Figure, by_name
from veil.recognizers.checkpoint import split_checksum, write_checkpoint
from veil.recognizers.embed import Clear
from veil.recognizers.whitebox import centroids
from veil.storage.folders import Row, RunFolder, write_csv
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.tasks.fit import fit
from veil.training.clear import clear_figures, compared, confusions
from veil.training.curve import draw_curve, read_curve
from veil.training.losses import new_loss
from veil.training.people import Labelled, People
from veil.training.recipe import Fitting
from veil.training.tuning import Tuning


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
        details = {"mode": "head", "base": weights_of(recognizer), "recipe": {"classifier": config.classifier}}
        figures = clear_figures(config.choices.recognizer, head, both)
        write_checkpoint(folder, head, {}, split_checksum(enrolment), figures, details)
        write_fitted(folder, figures, confusions(head, both, enrolment.people), stages)


def fit_head(
    config: Config, clear: Comparison, people: int, folder: Path, stages: Stages, logger: Logger | None = None
) -> nn.Linear:
    """Fit a classifier of everybody who is enrolled, as `classifier=` says."""
    recipe: Fitting = instantiate(config.classifier)
    means = centroids(clear.templates, clear.enrolled, people)
    loss = new_loss(recipe.loss, means, recipe.scale, recipe.margin)
    module = Tuning(nn.Identity(), loss, len(means), recipe.learning_rate, recipe.weight_decay)
    train, probes = Labelled(clear.templates, clear.enrolled), Labelled(clear.probes, clear.probed)
    data = People(train, [probes], recipe.batch_size, config.seed)
    fit(config, recipe, module, data, folder / "head", stages, logger, "fit the head", devices=1, strategy="auto")
    classifier: nn.Linear = loss.classifier()  # type: ignore[operator]
    return classifier.cpu()


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
