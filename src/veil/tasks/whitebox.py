"""The white box of a run: what its masker may ask."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from torch import nn

from veil.anonymization.anonymizer import Masker
from veil.config import Config
from veil.data.faces import Enrolment, FaceSet, pictures
from veil.data.splitfile import checksum
from veil.errors import InputError
from veil.maskers.cached import CachedScores
from veil.maskers.checked import checked
from veil.recognizers.checkpoint import Checkpoint, read_checkpoint, refuse_another_split
from veil.recognizers.embed import Clear, Embedder
from veil.recognizers.whitebox import WhiteBox, centroid_classifier, person_means, threshold
from veil.storage.addresses import head_folder
from veil.storage.fingerprint import settings
from veil.storage.progress import Stages
from veil.types import Inpainter


def enrolled_whitebox(
    config: Config, recognizer: nn.Module, clear: Clear, enrolment: Enrolment, stages: Stages
) -> WhiteBox:
    """The recogniser with a classifier of the enrolled people, and its surrogates.

    A surrogate's classifier is the softmax over the cosines to the centroids.
    """
    mixed = asks_in_bfloat16(config)
    head = fitted_head(config, recognizer, enrolment, clear, stages)
    means = person_means(clear, enrolment)
    surrogates = {name: instantiate(knobs) for name, knobs in config.surrogates.items()}
    fit_classical(surrogates, enrolment.gallery)
    others = []
    for name, surrogate in surrogates.items():
        refuse_another_split(surrogate, enrolment)
        device = next(recognizer.parameters()).device
        known = Embedder(name, surrogate.to(device), config.cache, stages).both(enrolment)
        others_means = person_means(known, enrolment)
        limit = threshold(config.hide_at_far, known, others_means, enrolment)
        others.append(
            WhiteBox(surrogate, centroid_classifier(others_means), others_means, threshold=limit, mixed=mixed)
        )
    return WhiteBox(recognizer, head, means, others, threshold(config.hide_at_far, clear, means, enrolment), mixed)


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
    with run.claimed():
        if not run.complete:
            from veil.tasks.head import make_head  # loads Lightning, which trains it

            make_head(run, config, recognizer, enrolment, clear, stages, logger)
    return read_checkpoint(run.path).head()


def fit_classical(recognizers: Mapping[str, nn.Module], gallery: FaceSet) -> None:
    """Fit the recognisers that learn from the enrolled photos (eigenfaces)."""
    for recognizer in recognizers.values():
        if hasattr(recognizer, "fit"):
            recognizer.fit(pictures(gallery))  # type: ignore[operator]


def asks_in_bfloat16(config: Config) -> bool:
    """Whether white boxes are asked in bfloat16: `trainer.precision`. Half floats are too short for gradients, and a
    threshold wants single precision.
    """
    precision = config.trainer.get("precision", "32-true")
    allowed = ("32-true", "bf16-mixed") if config.hide_at_far is None else ("32-true",)
    if precision not in allowed:
        where = "to make masks" if config.hide_at_far is None else "with hide_at_far"
        raise InputError(f"trainer.precision {where} must be one of {allowed}, got {precision!r}")
    return bool(precision == "bf16-mixed")


def asking_masker(config: Config, inpainter: Callable[[], Inpainter], others: Callable[[], FaceSet]) -> Masker:
    """The masker; what is slow to score is kept for other ratios and tries.

    Args:
        inpainter, others: give it, and clear photos of attacker people, where they are asked for.

    One that takes `repaint` by name gets the inpainter; then its scores depend on that as well. Those of its `starts`
    do not, and are kept for themselves. One that takes `others` gets `others`, and what it asks of its masker `of` is
    kept. Raises InputError for a precision in which masks are not made.

    """
    mixed = asks_in_bfloat16(config)

    def kept(masker: Masker, own: Any, **others: Any) -> Masker:
        masker = checked(masker, f"masker={config.choices.masker}: {own['_target_']}")
        if not config.cache_scores:
            return masker
        everything = {"masker": settings(own, config.cache), "mixed": mixed, **others}
        return CachedScores(masker, everything, Path(config.cache).expanduser() / "scores")

    masker: Callable[..., Any] = instantiate(config.masker)
    if "others" in inspect.signature(masker).parameters:
        of = config.masker["of"]
        asked = instantiate(of)
        if {"repaint", "others"} & set(inspect.signature(asked).parameters):
            raise InputError(f"masker.of must be a masker that asks for the face alone, got {of['_target_']}")
        return partial(masker, others=others, of=kept(asked, of))
    if "repaint" not in inspect.signature(masker).parameters:
        return kept(masker, config.masker)
    asking = partial(masker, repaint=inpainter())
    if "starts" in config.masker:
        starts = config.masker["starts"].items()
        asking = partial(asking, starts={name: kept(instantiate(start), start) for name, start in starts})
    return kept(asking, config.masker, inpainter=settings(config.inpainter, config.cache))
