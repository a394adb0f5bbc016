"""The white box of a run: what its masker may ask."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor, nn

from veil.anonymization.anonymizer import Masker
from veil.config import Config
from veil.data.faces import Enrolment, FaceSet, pictures
from veil.data.splitfile import checksum
from veil.errors import InputError
from veil.maskers.cached import CachedScores
from veil.metrics.identification import Comparison
from veil.metrics.verification import pairs, thresholds
from veil.recognizers.checkpoint import Checkpoint, read_checkpoint, refuse_another_split
from veil.recognizers.embed import Clear, embed_both
from veil.recognizers.whitebox import WhiteBox, centroids
from veil.storage.addresses import head_folder
from veil.storage.fingerprint import settings
from veil.storage.progress import Stages
from veil.types import Inpainter

SHARPNESS = 32.0  # of a surrogate's softmax over cosines


def enrolled_whitebox(
    config: Config, recognizer: nn.Module, clear: Clear, enrolment: Enrolment, stages: Stages
) -> WhiteBox:
    """The recogniser with a classifier of the enrolled people, and its surrogates.

    A surrogate's classifier is the softmax over the cosines to the centroids.
    """
    mixed = mixed_precision(config)
    head = fitted_head(config, recognizer, enrolment, clear, stages)
    means = person_means(clear, enrolment)
    surrogates = {name: instantiate(settings) for name, settings in config.surrogates.items()}
    fit_classical(surrogates, enrolment.gallery)
    others = []
    for name, surrogate in surrogates.items():
        refuse_another_split(surrogate, enrolment)
        device = next(recognizer.parameters()).device
        known = embed_both(surrogate.to(device), enrolment, config.cache, stages, name)
        others_means = person_means(known, enrolment)
        limit = threshold(config, known, others_means, enrolment)
        others.append(WhiteBox(surrogate, nearest_centroid(others_means), others_means, threshold=limit, mixed=mixed))
    return WhiteBox(recognizer, head, means, others, threshold(config, clear, means, enrolment), mixed)


def fitted_head(
    config: Config,
    recognizer: nn.Module,
    enrolment: Enrolment,
    clear: Clear,
    stages: Stages,
    logger: Any = None,
) -> nn.Linear:
    """The classifier for this data, recogniser, split and seed: the checkpoint's own, or read, or fitted (seconds)."""
    tuned: Checkpoint | None = getattr(recognizer, "checkpoint", None)
    if tuned is not None:
        return tuned.head()
    run = head_folder(config, checksum(enrolment))
    with run.claimed(wait=True):
        if not run.complete:
            from veil.tasks.head import make_head  # loads Lightning, which trains it

            make_head(run, config, recognizer, enrolment, clear, stages, logger)
    return read_checkpoint(run.path).head()


def fit_classical(recognizers: Mapping[str, nn.Module], gallery: FaceSet) -> None:
    """Fit the recognisers that learn from the enrolled photos (eigenfaces)."""
    for recognizer in recognizers.values():
        if hasattr(recognizer, "fit"):
            recognizer.fit(pictures(gallery))  # type: ignore[operator]


def nearest_centroid(means: Float[Tensor, "people d"]) -> nn.Linear:
    """A classifier without training: the softmax over the cosines to the people's centroids."""
    head = nn.Linear(means.shape[1], len(means), bias=False)
    head.weight.data = SHARPNESS * means
    return head


def mixed_precision(config: Config) -> bool:
    """Whether white boxes are asked in bfloat16: `trainer.precision`. Half floats are too short for gradients, and a
    threshold wants single precision.
    """
    precision = config.trainer.get("precision", "32-true")
    allowed = ("32-true", "bf16-mixed") if config.hide_at_far is None else ("32-true",)
    if precision not in allowed:
        where = "to make masks" if config.hide_at_far is None else "with hide_at_far"
        raise InputError(f"trainer.precision {where} must be one of {allowed}, got {precision!r}")
    return bool(precision == "bf16-mixed")


def person_means(clear: Clear, enrolment: Enrolment) -> Float[Tensor, "people d"]:
    """Centroid of each enrolled person."""
    return centroids(clear.gallery, torch.tensor(enrolment.gallery.identities), len(enrolment.people))


def threshold(config: Config, clear: Clear, means: Float[Tensor, "people d"], enrolment: Enrolment) -> float | None:
    """The cosine to a centroid that clear probes of other people exceed with the FAR of `minimal`; `None` without it.

    Raises InputError where the data has too few pairs for this FAR.
    """
    if config.hide_at_far is None:
        return None
    probed = torch.tensor(enrolment.probes.identities)
    strangers = pairs(Comparison(clear.probes, probed, means, torch.arange(len(means)))).impostors
    limits = thresholds(strangers)
    if config.hide_at_far not in limits:
        raise InputError(
            f"hide_at_far: the data's {len(strangers)} pairs of a clear probe and another person's centroid support "
            f"FARs of {list(limits) or 'none'}, got {config.hide_at_far}"
        )
    return limits[config.hide_at_far]


def asking_masker(config: Config, inpainter: Inpainter) -> Masker:
    """The masker; what is slow to score is kept for other ratios and tries.

    One that takes `repaint` by name gets the inpainter; then its scores depend on that as well. Those of its `starts`
    do not, and are kept for themselves. Raises InputError for a precision in which masks are not made.
    """
    mixed = mixed_precision(config)

    def kept(masker: Masker, own: Any, **others: Any) -> Masker:
        if not config.cache_scores:
            return masker
        everything = {"masker": settings(own, config.cache), "mixed": mixed, **others}
        return CachedScores(masker, everything, Path(config.cache).expanduser() / "scores")

    masker: Callable[..., Any] = instantiate(config.masker)
    if "repaint" not in inspect.signature(masker).parameters:
        return kept(masker, config.masker)
    asking = partial(masker, repaint=inpainter)
    if "starts" in config.masker:
        starts = config.masker["starts"].items()
        asking = partial(asking, starts={name: kept(instantiate(start), start) for name, start in starts})
    return kept(asking, config.masker, inpainter=settings(config.inpainter, config.cache))
