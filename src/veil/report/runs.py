"""Finished runs, read, and what is one config whatever the seed. Loads no torch."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from veil.errors import InputError
from veil.evaluation.results import Results, read_results
from veil.metrics.measure import ANONYMISED, Figure
from veil.metrics.seeds import over_seeds
from veil.report.knobs import flat, without_paths
from veil.storage.fingerprint import SPEED
from veil.storage.progress import console

GROUPS = ("data", "recognizer", "masker", "inpainter")  # whose choices name a run
# change no figure, but the seed
UNREAD = (*SPEED, "cache_limit", "cache_scores", "logger", "objectives", "on_error", "seed", "task", "trainer")
MEASURING = ("anonymized", "attacks", "attribute_classifiers", "controls", "features", "judges", "metrics", "subgroups")
TOP = re.compile(r"^(?=[a-z])", re.MULTILINE)  # where a knob or group of a config begins
INSIDE = {"attackers", "csv", "gallery", "probes", "wandb"}  # folders that hold no runs, but many files


@dataclass
class Run:
    """A finished evaluation.

    Args:
        config: as its folder holds it.
        settings: what tells it from the others, for people to read: choices with the knobs in which runs of a choice
            differ, then whatever else differs.

    """

    folder: Path
    config: dict[str, Any]
    results: Results
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Of every draw, and of the split."""
        return int(self.config["seed"])

    @property
    def but_seed(self) -> str:
        """Equal for runs that differ in the seed alone."""
        return _text({name: value for name, value in self.config.items() if name not in UNREAD})

    @property
    def but_masker(self) -> str:
        """Equal for runs whose pictures differ by masker and seed alone."""
        names = {name: value for name, value in self.config["choices"].items() if name not in ("masker", "task")}
        dropped = (*UNREAD, *MEASURING, "masker")
        return _text({name: value for name, value in self.config.items() if name not in dropped} | {"choices": names})


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


@dataclass
class Candidate:
    """One config, whatever the seed: its runs, newest of each seed, and their figures averaged."""

    runs: list[Run]
    figures: dict[str, Figure]

    @property
    def settings(self) -> dict[str, Any]:
        """As `Run.settings`."""
        return self.runs[0].settings

    @property
    def measured(self) -> dict[str, Figure]:
        """The figures that every seed has."""
        return {name: figure for name, figure in self.figures.items() if not figure.absent}

    @property
    def flags(self) -> list[str]:
        """Kinds of flag that any of its runs raised."""
        return sorted({kind for run in self.runs for kind in run.results.flag_kinds})


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Folders with a `metrics.json`, these or below these, sorted.

    Raises InputError for a folder that is not there.
    """
    found = set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"task.folders must name folders that hold finished runs, got {folder}")
        for place, inside, files in os.walk(folder):
            if "metrics.json" in files:
                found.add(Path(place).resolve())
                inside.clear()
            inside[:] = [name for name in inside if not (name in INSIDE or name.startswith(".") or ".partial" in name)]
    return sorted(found)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The evaluations among finished runs; how many are of other tasks is printed."""
    found = []
    for folder in folders:
        try:
            found.append(_read(folder))
        except (InputError, OSError, ValueError, KeyError, yaml.YAMLError) as error:  # torn, or not of Veil
            console.print(f"Left out: {folder} holds no finished run ({type(error).__name__}: {error})", soft_wrap=True)
    runs = [run for run in found if _evaluates(run.results)]
    if len(runs) < len(found):
        console.print(f"{len(found) - len(runs)} folders hold results of other tasks: left out")
    _tell_apart(runs)
    return runs


def _read(folder: Path) -> Run:
    blocks = TOP.split((folder / "config.yaml").read_text())
    config = {name: value for block in blocks if block for name, value in _block(block).items()}
    return Run(folder, config, read_results(folder))


@lru_cache(4096)
def _block(text: str) -> dict[str, Any]:
    """One knob or group of a config. Most are the same in every run: parsing them once is ten times as fast."""
    return dict(yaml.load(text, yaml.CSafeLoader))


def _evaluates(results: Results) -> bool:
    """Whether it looks at anonymised pictures; verification and fine-tuning look at clear ones."""
    return any(
        figure.condition == ANONYMISED and figure.measure.kind in ("privacy", "utility")
        for figure in results.figures.values()
    )


def _tell_apart(runs: Sequence[Run]) -> None:
    """Give each run its settings."""
    tools = sorted({str(run.config["anonymized"]) for run in runs if run.config.get("anonymized")})
    for group in GROUPS:
        alike: dict[str, list[Run]] = {}
        for run in runs:
            alike.setdefault(run.config["choices"].get(group, ""), []).append(run)
        for choice, same in alike.items():
            for run, own in zip(same, _varying([_own_knobs(run.config, group) for run in same]), strict=True):
                tool = run.config.get("anonymized") if group == "masker" else None  # its folder's name is private
                name = f"another tool {tools.index(str(tool)) + 1}" if tool else choice
                run.settings[group] = " ".join([name, *(f"{knob}={value}" for knob, value in own.items())])
    for run, own in zip(runs, _varying([_others(run.config) for run in runs]), strict=True):
        run.settings |= {"ratio": run.config.get("ratio")} | own


def _own_knobs(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A group's knobs, but for those that repeat one of the run's (`cells: ${cells}`)."""
    knobs = flat(config.get(group) or {})
    return {name: value for name, value in knobs.items() if config.get(name, ...) != value and name not in SPEED}


def _others(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is no group of `GROUPS`; of judges, attacks and the like their names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if name in (*UNREAD, *GROUPS, "anonymized", "choices", "ratio"):
            continue
        if isinstance(value, Mapping) and all(isinstance(part, Mapping) for part in value.values()):
            found[name] = " ".join(sorted(value)) or "none"
        else:
            found |= flat({name: value})
    return found


def _varying(knobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each run those knobs that are not the same everywhere, without paths."""
    names = dict.fromkeys(name for own in knobs for name in own)
    turned = [name for name in names if len({str(own.get(name, ...)) for own in knobs}) > 1]
    return [without_paths({name: own[name] for name in turned if name in own}) for own in knobs]


def setting_text(setting: Any) -> str:
    """A setting in tables; a ratio that an optimiser chose has sixteen digits."""
    return f"{setting:.4g}" if isinstance(setting, float) else str(setting)


def candidates(runs: Sequence[Run]) -> list[Candidate]:
    """Runs by config, seeds averaged. Of several runs of one config and seed the newest counts; the number of others
    is printed.
    """
    newest: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (run.folder / "metrics.json").stat().st_mtime):
        newest.setdefault(run.but_seed, {})[run.seed] = run
    older = len(runs) - sum(map(len, newest.values()))
    if older:
        console.print(f"{older} runs have a newer one of the same config and seed: left out of the averages")
    order = {id(run): place for place, run in enumerate(runs)}
    groups = sorted(newest.values(), key=lambda seeds: min(order[id(run)] for run in seeds.values()))
    return [_averaged([seeds[seed] for seed in sorted(seeds)]) for seeds in groups]


def _averaged(runs: list[Run]) -> Candidate:
    figures = {}
    for name, figure in {name: figure for run in runs for name, figure in run.results.figures.items()}.items():
        each = [run.results.figures.get(name) for run in runs]
        there = [part.interval for part in each if part and not part.absent]
        result = over_seeds(there, figure.measure) if len(there) == len(runs) else _missing(figure, len(there), runs)
        figures[name] = Figure(figure.measure, result, *_place(figure))
    return Candidate(runs, figures)


def _missing(figure: Figure, there: int, runs: Sequence[Run]) -> str:
    return figure.absent if len(runs) == 1 else f"measured for {there} of {len(runs)} seeds only"


def _place(figure: Figure) -> tuple[str, ...]:
    return figure.subject, figure.attack, figure.condition, figure.control, figure.group
