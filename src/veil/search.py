"""Sweepers that search: what they may be asked for, and what a run hands them.

Loaded before every command, as `veil.sweep` is: nothing heavy at the top.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig

from veil.errors import InputError

WAYS = {"lower": "minimize", "higher": "maximize"}  # as measures have it: as sweepers do


@dataclass(frozen=True)
class Made:
    """What a run gives to Hydra: its folder, and the numbers that an optimising sweeper reads."""

    folder: str
    objectives: Sequence[float]

    def __iter__(self) -> Iterator[float]:
        return iter(self.objectives)

    def __float__(self) -> float:
        (only,) = self.objectives
        return only


class WrongObjectives(InputError):
    """No run of the sweep will have these figures, or all would be pushed the wrong way."""


def reached(objectives: Sequence[str], folder: Path) -> list[float]:
    """The values of these figures of an evaluation. Empty where no sweeper asks, and where one is absent, which is
    told: the search goes on without this run.

    Raises WrongObjectives for a task without figures, a name that no figure has, and one that the sweeper is to push
    the wrong way.
    """
    from veil.evaluation.results import read_results

    ways = _directions(HydraConfig.get().sweeper)
    if ways is None or HydraConfig.get().mode != RunMode.MULTIRUN:
        return []
    if not (folder / "metrics.json").exists():
        raise WrongObjectives(f"objectives must be figures, which this task measures none of, got {list(objectives)}")
    figures = read_results(folder).figures
    for name, way in zip(objectives, ways, strict=True):
        if name not in figures:
            known = ", ".join(found for found, figure in figures.items() if figure.measure.prominence)
            raise WrongObjectives(f"objectives must be names of figures of the run, such as {known}; got {name}")
        right = WAYS.get(figures[name].measure.better, way)
        if way != right:
            raise WrongObjectives(f"hydra.sweeper.direction must be {right} for {name}, got {way}")
    for name in objectives:
        if figures[name].absent:
            told = f"objectives: {name} is absent ({figures[name].absent}): the search goes on without this run"
            print(told, file=sys.stderr)
            return []
    return [figures[name].value for name in objectives]


def refuse_hopeless(config: DictConfig) -> None:
    """Raise InputError where a sweeper that searches cannot do what it is asked for. `config`: the multirun's."""
    sweeper, objectives = config.hydra.sweeper, list(config.objectives)
    ways = _directions(sweeper)
    if ways is None:
        return
    if not set(ways) <= set(WAYS.values()):
        raise InputError(f"hydra.sweeper.direction must list minimize and maximize alone, got {', '.join(ways)}")
    if len(ways) != len(objectives) or not ways:
        asked = f"one figure for each hydra.sweeper.direction, {', '.join(ways) or 'of which there must be one'}"
        raise InputError(f"objectives must name {asked}; got {objectives}")
    if len(set(objectives)) < len(objectives):
        raise InputError(f"objectives must be different figures, got {objectives}")
    for knob in ("n_trials", "n_jobs"):
        if sweeper.get(knob, 1) < 1:
            raise InputError(f"hydra.sweeper.{knob} must be at least 1, got {sweeper[knob]}")
    if sweeper.get("max_failure_rate", 1.0) != 1.0:
        told = "a run that failed is told, and the search goes on"
        raise InputError(f"hydra.sweeper.max_failure_rate must be 1.0: {told}; got {sweeper.max_failure_rate}")
    if not (_chooses(config) or any(sweeper.get(name) for name in ("params", "search_space", "custom_search_space"))):
        raise InputError(
            "a sweeper that searches must have something to choose, such as 'ratio=interval(0.1,0.6)' or "
            f"masker=random,saliency; got {' '.join(config.hydra.overrides.task)}"
        )


def quiet_optuna(config: DictConfig) -> None:
    """Silence what Optuna says of itself; Hydra's words for it are silenced in `conf/sweeper/optuna.yaml`."""
    if ".hydra_optuna_sweeper." in config.hydra.sweeper._target_:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `multivariate`, chosen there too


def _directions(sweeper: DictConfig) -> list[str] | None:
    """Which way each objective is better; None where the sweeper does not ask."""
    ways = sweeper.get("direction")
    if ways is None:
        return None
    return [str(getattr(way, "name", way)) for way in (ways if isinstance(ways, ListConfig) else [ways])]


def _chooses(config: DictConfig) -> bool:
    asked = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    return any(override.is_sweep_override() for override in asked)
