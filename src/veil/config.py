"""The schema that every run is checked against before anything loads."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from veil.errors import InputError

IMAGE_FORMATS = ("png", "jpg")
ON_ERROR = ("raise", "skip")
ANONYMIZED_AS = ("photos", "crops")
ON_NO_FACE = ("skip", "copy", "error")
ENGINES = ("local", "ray")
FARS = (1e-2, 1e-3, 1e-4)  # for which thresholds are set
REGIONS = (
    "eyes",
    "brows",
    "nose",
    "mouth",
    "jaw",
)  # what `protect` and `masker=landmarks` know
RENAMED = {  # knobs and groups of earlier versions
    "attributes": "attribute_classifiers",
    "groups": "subgroups",
    "head": "classifier",
    "keep": "protect",
    "minimal": "hide_at_far",
}
VIEW_SIZE = 160  # px, `veil.types.VIEW * CROP`; a cell must be a whole number of pixels


@dataclass
class Split:
    """How people, and each person's photos, are divided."""

    gallery: float = 0.8
    attackers: float = 0.25
    probes: int | None = None

    def __post_init__(self) -> None:
        if self.probes is not None and self.probes < 2:
            raise InputError(f"split.probes is the most probes of a run, null or at least 2, got {self.probes}")
        if not 0 <= self.attackers < 1:
            raise InputError(f"split.attackers is a share of the people, in [0, 1), got {self.attackers}")
        if not 0 < self.gallery < 1:
            raise InputError(f"split.gallery is the share of photos enrolled, in (0, 1), got {self.gallery}")


@dataclass
class Choices:
    """The option taken in each group; they name the run folder."""

    task: str = MISSING
    data: str = MISSING
    recognizer: str = MISSING
    masker: str = MISSING
    inpainter: str = MISSING


@dataclass
class Config:
    """What `python run.py key=value` may set."""

    task: Any = MISSING
    data: Any = MISSING
    recognizer: Any = MISSING
    surrogates: Any = MISSING
    judges: Any = MISSING
    classifier: Any = MISSING
    masker: Any = MISSING
    inpainter: Any = MISSING
    attacks: Any = MISSING
    controls: Any = MISSING
    features: Any = MISSING
    metrics: Any = MISSING
    detector: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    ratio: float = 0.25
    hide_at_far: float | None = None
    raggedness: float | None = None
    cells: int | None = 16
    protect: list[Any] = field(default_factory=list)
    seed: int = 0
    split: Split = field(default_factory=Split)
    anonymized: str | None = None
    anonymized_as: str = "photos"
    subgroups: list[str] | None = None
    attribute_classifiers: bool = False
    objectives: list[str] = field(default_factory=list)
    input: Any = None
    output: str | None = None
    until: float | None = 1e-3
    tries: int = 6
    spare: str | None = None
    consistent: bool = True
    on_no_face: str = "skip"
    engine: str = "local"
    batch_size: int = 16
    workers: int = 0
    on_error: str = "raise"
    image_format: str = "png"
    outputs: str = "outputs"
    cache: str = MISSING
    cache_limit: str | None = "20GB"
    cache_scores: bool = True
    choices: Choices = field(default_factory=Choices)

    def __post_init__(self) -> None:
        for knob, place in (("outputs", self.outputs), ("cache", self.cache)):
            if not place.strip():
                told = (
                    ": the variable VEIL_CACHE is empty; unset it, or let it name a folder" if knob == "cache" else ""
                )
                raise InputError(f"{knob} must be a folder, got {place!r}{told}")
        if not 0 < self.ratio <= 1:
            raise InputError(f"ratio is the share of the view to repaint, in (0, 1], got {self.ratio}")
        if self.cells is not None and (self.cells < 2 or VIEW_SIZE % self.cells):
            allowed = [cells for cells in range(2, VIEW_SIZE + 1) if VIEW_SIZE % cells == 0]
            raise InputError(f"cells must be null or one of {allowed} (divisors of {VIEW_SIZE} px), got {self.cells}")
        grid = (self.cells or VIEW_SIZE) ** 2
        if round(self.ratio * grid) < 1:
            raise InputError(f"ratio must be at least {0.5 / grid:.2g}, half a cell of {grid}, got {self.ratio}")
        if self.hide_at_far is not None and self.hide_at_far not in FARS:
            raise InputError(f"hide_at_far is a false acceptance rate, null or one of {FARS}, got {self.hide_at_far}")
        if self.anonymized is not None and self.hide_at_far is not None:
            raise InputError(
                f"hide_at_far must be null with anonymized=, whose masks are another tool's, got {self.hide_at_far}"
            )
        if self.anonymized is not None and self.raggedness is not None:
            raise InputError(
                f"raggedness must be null with anonymized=, whose masks are another tool's, got {self.raggedness}"
            )
        if self.raggedness is not None and not self.raggedness >= 1:
            raise InputError(f"raggedness is null or at least 1, a square's raggedness, got {self.raggedness}")
        if self.raggedness is not None and self.hide_at_far is not None:
            raise InputError(f"raggedness must be null with hide_at_far: masks must be nested, got {self.raggedness}")
        for part in self.protect:
            if not (part in REGIONS if isinstance(part, str) else _is_box(part)):
                raise InputError(
                    f"protect must list some of {list(REGIONS)} and boxes [left, top, right, bottom], shares of the "
                    f"view in [0, 1], left < right and top < bottom, got {part!r}"
                )
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be in [0, 2**32), got {self.seed}")
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.workers < 0:
            raise InputError(f"workers must be at least 0, got {self.workers}")
        if self.on_error not in ON_ERROR:
            raise InputError(f"on_error must be one of {ON_ERROR}, got {self.on_error!r}")
        if self.anonymized_as not in ANONYMIZED_AS:
            raise InputError(f"anonymized_as must be one of {ANONYMIZED_AS}, got {self.anonymized_as!r}")
        if self.until is not None and self.until not in FARS:
            raise InputError(f"until is a false acceptance rate, null or one of {FARS}, got {self.until}")
        if self.tries < 1:
            raise InputError(f"tries is how often a face is repainted at most, at least 1, got {self.tries}")
        if self.on_no_face not in ON_NO_FACE:
            raise InputError(f"on_no_face must be one of {ON_NO_FACE}, got {self.on_no_face!r}")
        if self.engine not in ENGINES:
            raise InputError(f"engine must be one of {ENGINES}, got {self.engine!r}")
        if self.cache_limit is not None:
            bytes_of(self.cache_limit)
        if self.image_format not in IMAGE_FORMATS:
            raise InputError(f"image_format must be one of {IMAGE_FORMATS}, got {self.image_format!r}")


def bytes_of(limit: str) -> int:
    """Of `cache_limit`. Raises InputError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]B)", limit.strip().upper())
    if not found:
        raise InputError(f"cache_limit must be null or a size such as 500MB, 20GB or 1TB, got {limit}")
    return int(float(found[1]) * 1000 ** (1 + "KMGT".index(found[2][0])))


def _is_box(part: Any) -> bool:
    if not isinstance(part, list) or len(part) != 4 or not all(isinstance(edge, int | float) for edge in part):
        return False
    left, top, right, bottom = part
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def refuse_old_names(overrides: Iterable[str]) -> None:
    """Raise InputError for an override of a knob or group that has another name now; the message tells it."""
    for override in overrides:
        name, equals, value = override.lstrip("+~").partition("=")
        first, dot, rest = name.partition(".")
        if first in RENAMED and (equals or override.startswith("~")):
            raise InputError(f"{first} is called {RENAMED[first]} now: {RENAMED[first]}{dot}{rest}{equals}{value}")


def conf_folder() -> Path:
    """The folder with `config.yaml`: inside the package where a wheel was installed, at the top of a checkout."""
    package = Path(__file__).parent
    carried = package / "conf"
    return carried if carried.exists() else package.parents[1] / "conf"


def compose(*overrides: str, conf: str | Path | None = None, knobs: Mapping[str, Any] | None = None) -> Config:
    """What `veil <overrides>` hands to its task, for notebooks and scripts: `compose("masker=random", "seed=1")`.

    Args:
        conf: another folder with a `config.yaml`, instead of Veil's own.
        knobs: values by dotted name, set as they are: no grammar of overrides, no quoting.

    Raises InputError for a knob that does not exist.

    """
    refuse_old_names([*overrides, *(f"{name}={value}" for name, value in (knobs or {}).items())])
    with initialize_config_dir(str(Path(conf or conf_folder()).resolve()), version_base="1.3"):
        cfg = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        task = cfg.copy()
        for name, value in (knobs or {}).items():
            try:
                OmegaConf.update(task, name, value)
            except (ConfigAttributeError, ConfigKeyError) as error:
                raise InputError(
                    f"{name} is no knob of these choices (`veil --cfg job` shows them), got {value!r}"
                ) from error
        OmegaConf.set_struct(task, False)
        OmegaConf.set_readonly(task, False)
        del task["hydra"]
        return validate(task)


def validate(cfg: DictConfig) -> Config:
    """The resolved, checked config; groups become plain dicts that `hydra.utils.instantiate` takes.

    Raises InputError for a value out of range or of another type than its default, omegaconf's errors for a missing
    one.
    """
    _check_types(cfg, _defaults())
    return cast(Config, OmegaConf.to_object(cfg))


def _defaults() -> DictConfig:
    """The config of the same choices without any knob turned."""
    hydra = HydraConfig.get()
    groups = [
        override for override in hydra.overrides.task if override.lstrip("+").split("=")[0] in hydra.runtime.choices
    ]
    return _composed(GlobalHydra.instance().config_loader(), hydra.job.config_name, tuple(groups))


@lru_cache(1)
def _composed(loader: ConfigLoader, name: str, groups: tuple[str, ...]) -> DictConfig:
    """Runs of a sweep in one process share it: composing takes longer than all else in a run that is done already."""
    return loader.load_configuration(name, list(groups), run_mode=RunMode.RUN)


def _check_types(node: DictConfig, defaults: DictConfig, path: str = "") -> None:
    """Groups have no schema of their own: their defaults say what type each knob has."""
    for key in map(str, node):
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) or key not in defaults:
            continue
        value, default = node[key], None if OmegaConf.is_missing(defaults, key) else defaults[key]
        if isinstance(value, DictConfig) and isinstance(default, DictConfig):
            _check_types(value, default, f"{path}{key}.")
        elif default is not None and value is not None and not isinstance(value, _alike(default)):
            kind = type(default).__name__
            raise InputError(f"{path}{key} must be of type {kind}, as its default {default!r} is, got {value!r}")


def _alike(default: Any) -> tuple[type, ...]:
    return (int, float) if isinstance(default, float) else (type(default),)


ConfigStore.instance().store(name="schema", node=Config)
