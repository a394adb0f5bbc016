"""What a run found, on disk: `metrics.json` and `manifest.csv`, their one writer and their one reader."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from veil.errors import InputError
from veil.metrics.measure import ANONYMISED, Figure, Measure

SCHEMA = 2  # of metrics.json; files of another one are refused


class Flag(NamedTuple):
    """An assumption of the run that failed."""

    kind: str  # as docs/flags.md calls it
    text: str  # the sentence
    figures: tuple[str, ...] = ()  # names of the figures that it is about

    def __str__(self) -> str:
        return self.text


@dataclass
class Results:
    """What `metrics.json` holds.

    Args:
        figures: by name.
        faces: how many people and photos took part.
        command: that makes the run again.
        timings: seconds of each stage.
        details: what the task alone has to say.

    """

    figures: dict[str, Figure]
    flags: list[Flag] = field(default_factory=list)
    faces: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def flag_kinds(self) -> list[str]:
        """What is counted wherever flags are: three wide intervals are one kind. Their sentences may name a person."""
        return sorted({flag.kind for flag in self.flags})

    @property
    def held_out(self) -> set[str]:
        """Judges that took no part in making the masks."""
        return set(self.details.get("held_out", ()))

    @property
    def variants(self) -> set[str]:
        """Attacks that pose another threat than the headline's."""
        return set(self.details.get("variants", ()))

    @property
    def linking(self) -> set[str]:
        """Attacks that compare anonymised photos with each other."""
        return set(self.details.get("linking", ()))

    @property
    def measured(self) -> dict[str, Figure]:
        """The figures that are not absent."""
        return {name: figure for name, figure in self.figures.items() if not figure.absent}


def write_results(folder: Path, results: Results) -> None:
    """Write `metrics.json`: every figure by name, what each measure means, flags, counts, timings."""
    measures = {figure.measure.name: figure.measure for figure in results.figures.values()}
    contents = {
        "schema": SCHEMA,
        "figures": {name: figure.to_json() for name, figure in results.figures.items()},
        "flags": [flag._asdict() for flag in results.flags],
        "faces": results.faces,
        "command": results.command,
        "timings": {stage: round(seconds, 3) for stage, seconds in results.timings.items()},
        "details": results.details,
        "measures": {name: asdict(measure) for name, measure in sorted(measures.items())},
    }
    (folder / "metrics.json").write_text(json.dumps(contents, indent=2))


def read_results(folder: Path) -> Results:
    """What `write_results` wrote. Raises InputError where the folder holds no results, or those of another Veil."""
    path = folder / "metrics.json"
    if not path.exists():
        raise InputError(f"folder must hold a finished run, got {folder} without metrics.json")
    contents = json.loads(path.read_text())
    if contents.get("schema") != SCHEMA:
        raise InputError(f"folder must hold results of schema {SCHEMA}, got {folder} of {contents.get('schema')}")
    measures = {
        name: Measure(**parts | {"bounds": tuple(parts["bounds"])}) for name, parts in contents["measures"].items()
    }
    return Results(
        {name: Figure.from_json(parts, measures[parts["measure"]]) for name, parts in contents["figures"].items()},
        [Flag(parts["kind"], parts["text"], tuple(parts["figures"])) for parts in contents["flags"]],
        **{name: contents[name] for name in ("faces", "command", "timings", "details")},
    )


def column_names(figures: Iterable[Figure], measure: Measure, subjects: Mapping[str, Any] | set[str]) -> list[str]:
    """Columns of the manifest that hold a measure by some subjects, of what was anonymised, over all attacks."""
    return [
        figure.name
        for figure in figures
        if figure.measure.name == measure.name
        and figure.subject in subjects
        and figure.condition == ANONYMISED
        and not figure.group
    ]
