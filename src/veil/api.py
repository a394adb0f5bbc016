"""Veil from Python, with the choices and knobs of the command line as arguments."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, InstantiationException, MissingConfigException
from jaxtyping import Float
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from veil.anonymization.anonymized_set import AnonymizedSet
from veil.config import Config, compose, conf_folder
from veil.errors import InputError
from veil.evaluation.results import Results, read_results
from veil.report.album import Summary
from veil.tasks.anonymize import by_itself, made_set, scored
from veil.tasks.evaluate import evaluate as run_evaluation
from veil.tasks.setup import Setup

ATT = "att"  # the faces that install with Veil


def anonymize(
    photos: str | Path = ATT,
    *,
    masker: str = "saliency",
    ratio: float = 0.25,
    inpainter: str = "face_diffusion",
    **knobs: Any,
) -> AnonymizedSet:
    """Mask and repaint the probes of a data set, and give the set, which lies in `outputs`.

    Runs on the first of `trainer.devices`; the command line, with Lightning, on all of them.

    Args:
        photos: a folder or zip with one folder a person, a `.csv`, or `att` for the faces that install with Veil.
        masker: which pixels give the identity away; `veil --help` lists the choices.
        ratio: share of the view to repaint, in (0, 1].
        inpainter: what repaints them.
        knobs: any other choice or knob of the command line: `seed=1`, `**{"split.probes": 100}`; `attacks="default"`
            anonymises the photos too that these attacks take beside the probes.

    Raises InputError for what the command line refuses.

    """
    config = _config(photos, {"masker": masker, "ratio": ratio, "inpainter": inpainter, "attacks": "none", **knobs})
    with _reasons():
        return made_set(Setup(config), by_itself)


def scores(photos: str | Path = ATT, *, masker: str = "saliency", **knobs: Any) -> dict[str, Float[Tensor, "i j"]]:
    """How much each part of a probe's view gives the person away, by the photo's key; what is higher is masked first.

    Args:
        photos, masker, knobs: as in `anonymize`.

    Raises InputError for what the command line refuses.

    """
    config = _config(photos, {"masker": masker, **knobs})
    with _reasons():
        return scored(Setup(config))


def evaluate(photos: str | Path = ATT, anonymized: str | Path | None = None, **knobs: Any) -> Results:
    """Attack anonymised pictures of a data set and measure what is left: figures with intervals, and flags.

    Args:
        photos: as in `anonymize`.
        anonymized: pictures that another tool made of these photos, a folder or a `.csv` with key and path; None makes
            our own, as `masker=`, `ratio=` and `inpainter=` among the knobs say.
        knobs: as in `anonymize`.

    Raises InputError for what the command line refuses.

    """
    if anonymized is not None:
        knobs["anonymized"] = str(anonymized)
    config = _config(photos, {"logger": "csv", **knobs})
    with _reasons():
        return read_results(run_evaluation(config))


def photos(input: str | Path | Sequence[str | Path], output: str | Path, **knobs: Any) -> Summary:
    """Cover every face of your own photos and write them, without metadata, into a new folder.

    Args:
        input: a file, a folder, a pattern such as `trip/**/*.jpg`, or several of these.
        output: a new folder outside of input, or one that this began.
        knobs: as in `anonymize`: `until=1e-4`, `spare="who_agreed"`, `masker="saliency"`.

    Gives what was done, counted; `<output>/veil-report` holds the page and the tables. Raises InputError for what the
    command line refuses.

    """
    from veil.tasks.photos import covered_album

    asked = [input] if isinstance(input, str | Path) else input
    turned = {"input": [str(name) for name in asked], "output": str(output), **knobs}
    with _reasons():
        return covered_album(_config(ATT, {"logger": "csv", **turned}, task="photos"))


@contextmanager
def _reasons() -> Iterator[None]:
    """Raise what a constructor raised, not Hydra's wrapping of it."""
    try:
        yield
    except InstantiationException as error:
        raise error.__cause__ or error from error


def _config(photos: str | Path, knobs: Mapping[str, Any], task: str = "evaluate") -> Config:
    """Choices of groups are overrides; knobs are set in the composed config, so that no value needs quoting."""
    if not str(photos):
        raise InputError("photos must be a folder, a zip, a .csv or `att`, got ''")
    if "task" in knobs:
        raise InputError(f"task is the function that is called, got {knobs['task']!r}")
    folder = str(photos) != ATT
    groups = {path.name for path in conf_folder().iterdir() if path.is_dir()}
    chosen = {"task": task, "data": "folder" if folder else ATT} | {
        key: value for key, value in knobs.items() if key in groups
    }
    turned = {key: value for key, value in knobs.items() if key not in groups}
    if folder:
        turned["data.root"] = str(photos)
    try:
        return compose(*(f"{group}={option}" for group, option in chosen.items()), knobs=turned)
    except (ConfigCompositionException, MissingConfigException, OmegaConfBaseException) as error:
        raise InputError(str(error).split("\n")[0]) from error
