"""The white box's classifier: fitted on clear embeddings, or a checkpoint's own."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from hydra.utils import instantiate
from jaxtyping import Float
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from veil.config import Config
from veil.data.faces import Enrolment
from veil.data.splitfile import checksum
from veil.evaluation.results import Results, write_results
from veil.metrics.identification import Comparison
from veil.metrics.measure import Figure, by_name
from veil.recognizers.checkpoint import Checkpoint, read_checkpoint, split_checksum, write_checkpoint
from veil.recognizers.embed import Embedder
from veil.recognizers.whitebox import centroids
from veil.storage.addresses import head_folder
from veil.storage.folders import Row, write_csv
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.tasks.fit import fit
from veil.training.clear import clear_figures, compared, confusions
from veil.training.curve import draw_curve, read_curve
from veil.training.losses import new_loss
from veil.training.people import Labelled, People
from veil.training.recipe import Fitting
from veil.training.tuning import Tuning


class Clear(NamedTuple):
    """Embeddings of the clear photos."""

    gallery: Float[Tensor, "g d"]
    probes: Float[Tensor, "p d"]


def embed_both(recognizer: nn.Module, enrolment: Enrolment, cache: str, stages: Stages, name: str) -> Clear:
    """Clear embeddings of gallery and probes."""
    embedder = Embedder(name, recognizer, cache, stages)
    return Clear(embedder.clear(enrolment.gallery), embedder.clear(enrolment.probes))


def fitted_head(
    config: Config,
    recognizer: nn.Module,
    enrolment: Enrolment,
    clear: Clear,
    stages: Stages,
    logger: Logger | None = None,
) -> nn.Linear:
    """The classifier for this data, recogniser, split and seed: the checkpoint's own, or read, or fitted (seconds)."""
    tuned: Checkpoint | None = getattr(recognizer, "checkpoint", None)
    if tuned is not None:
        return tuned.head()
    run = head_folder(config, checksum(enrolment))
    with run.claimed(wait=True):
        if not run.complete:
            shutil.rmtree(run.partial, ignore_errors=True)  # seconds of work: begun anew, not resumed
            with run.writing() as folder:
                both = compared(*clear, enrolment)
                head = fit_head(config, both, len(enrolment.people), folder, stages, logger)
                details = {"mode": "head", "base": weights_of(recognizer), "recipe": {"classifier": config.classifier}}
                figures = clear_figures(config.choices.recognizer, head, both)
                write_checkpoint(folder, head, {}, split_checksum(enrolment), figures, details)
                write_fitted(folder, figures, confusions(head, both, enrolment.people), stages)
    return read_checkpoint(run.path).head()


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
