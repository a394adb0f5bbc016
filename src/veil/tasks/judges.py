"""The judges that can be had, and why the others cannot."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from veil.config import Config
from veil.data.faces import FaceSet, pictures
from veil.errors import InputError


def fit_classical(recognizers: Mapping[str, nn.Module], gallery: FaceSet) -> None:
    """Fit the recognisers that learn from the enrolled photos (eigenfaces)."""
    for recognizer in recognizers.values():
        if hasattr(recognizer, "fit"):
            recognizer.fit(pictures(gallery))  # type: ignore[operator]


def other_judges(config: Config, whitebox: str) -> dict[str, Any]:
    """The configs of the judges, less one that is the white box under its own name: it judges anyhow.

    Raises InputError for another recogniser, or other settings of the same, under the white box's name.
    """
    settings = config.judges.get(whitebox, config.recognizer)
    if settings != config.recognizer:
        raise InputError(
            f"judges: `{whitebox}` is the white box's name (recognizer={whitebox}); a judge with other settings must "
            f"have another name, got {settings}"
        )
    return {judge: settings for judge, settings in config.judges.items() if judge != whitebox}


def available(judges: Mapping[str, Any]) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Instantiate each judge; what lacks its optional package or its download is absent, with the reason by name.

    Every other failure is raised: a misspelt knob is the user's to mend, not a reason to measure less.
    """
    loaded: dict[str, nn.Module] = {}
    absent: dict[str, str] = {}
    for name, settings in judges.items():
        try:
            loaded[name] = instantiate(settings)
        except InstantiationException as error:
            # a `_target_` that does not exist has the plain ImportError as its cause, and is not excused
            if not isinstance(error.__cause__, ModuleNotFoundError | ConnectionError):
                raise
            absent[name] = str(error.__cause__)
    return loaded, absent
