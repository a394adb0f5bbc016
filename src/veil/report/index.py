"""One self-contained page over many configs: `index.html`, readable without network. People are numbers on it, and no
path is.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from veil.metrics.measure import ANONYMISED
from veil.report.compare import MOST
from veil.report.frontier import Axis, Frontier, axes
from veil.report.glossary import GLOSSARY
from veil.report.people import shows_original, strip
from veil.report.runs import Candidate, Run, setting_text
from veil.storage.fingerprint import digest
from veil.storage.folders import Row, read_columns

SIDE = 128  # px of a face on the page
PICTURES = ("result", "mask", "original")


class Shown(NamedTuple):
    """How much of the pictures the page holds.

    Args:
        originals: whether clear photos are among them.
        people: whose faces are shown of each config.
        pictured: configs with faces.

    """

    originals: bool
    people: int
    pictured: int


def write_index(
    found: Sequence[Candidate], best: Frontier | None, pairs: Sequence[Row], output: Path, shown: Shown
) -> Path:
    """Write `index.html` into `output`: faces, frontier, curves by ratio, and folded tables."""
    every = axes(found, [axis.figure.name for axis in best.axes] if best else [])
    front = best.front if best else []
    first = {id(one) for one in front}
    order = front + [one for one in found if id(one) not in first]
    pictured = {id(one) for one in order[: shown.pictured]}
    settings = list(dict.fromkeys(name for one in found for name in one.settings))
    data: dict[str, Any] = {
        "settings": settings,
        "axes": [_axis(axis) for axis in every],
        "first": [every.index(axis) for axis in best.axes] if best else [],
        "candidates": [_candidate(one, settings, every) for one in found],
        "faces": [_faces(one.runs[0], shown) if id(one) in pictured else None for one in found],
        "pairs": _pairs(found, pairs, settings),
    }
    here = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = templates.get_template("index.html.j2").render(
        data=Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),
        candidates=data["candidates"],
        axes=data["axes"],
        settings=settings,
        runs=sum(len(one.runs) for one in found),
        people=_range(one.runs[0].results.faces.get("people") for one in found),
        front=len(front),
        placed=len(best.found) if best else 0,
        pair=[axis.figure for axis in best.axes] if best else [],
        unpictured=len(found) - len(pictured),
        pictured=shown.pictured,
        flags=_flags(found),
        pairs=len(pairs),
        kept=sum(row["p_holm"] < 0.05 for row in pairs),
        most=MOST,
        glossary=GLOSSARY,
    )
    path = output / "index.html"
    path.write_text(page)
    return path


def _range(counts: Any) -> str:
    known = sorted({count for count in counts if count is not None})
    return " to ".join(dict.fromkeys(str(end) for end in (known[0], known[-1]))) if known else ""


def _axis(axis: Axis) -> dict[str, Any]:
    measure = axis.figure.measure
    return {
        "name": axis.figure.name,
        "meaning": measure.meaning,
        "kind": measure.kind,
        "share": measure.form == "share",
        "worst": axis.worst,
        "best": axis.best,
    }


def _candidate(one: Candidate, settings: Sequence[str], every: Sequence[Axis]) -> dict[str, Any]:
    figures: dict[int, Any] = {}
    for at, axis in enumerate(every):
        figure = one.measured.get(axis.figure.name)
        if figure:
            value, low, high, _ = figure.interval
            texts = figure.measure.text(value), figure.measure.between(low, high)
            figures[at] = [*(round(number, 5) for number in (value, low, high)), *texts]
    return {
        "set": ["-" if one.settings.get(name) is None else setting_text(one.settings[name]) for name in settings],
        "ratio": one.settings["ratio"],
        "seeds": len(one.runs),
        "runs": [f"{run.folder.parent.name}/{run.folder.name}" for run in one.runs],
        "flags": one.flags,
        "figures": figures,
    }


def _faces(run: Run, shown: Shown) -> dict[str, Any] | str:
    """The same people in every config, if they are probes there, and strips of their pictures; a reason without."""
    judges = run.results.held_out or {run.config["choices"]["recognizer"]}
    named = [
        figure.name
        for figure in run.results.figures.values()
        if figure.measure.name == "rank1" and figure.condition == ANONYMISED and not figure.group
        if figure.subject in judges
    ]
    wanted = {"key", "label", "unchanged", "utility/psnr", "utility/psnr_masked", *PICTURES, *named}
    columns = read_columns(run.folder, wanted)
    if not columns.get("key") or "result" not in columns:
        return "its manifest lists no pictures"
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    people: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: digest(row["key"])):  # an order that other probes beside them do not change
        people.setdefault(row["label"], row)
    picked = [people[label] for label in list(people)[: shown.people]]
    if not any((run.folder / row["result"]).exists() for row in picked if row["result"]):
        return "its pictures are gone"
    kinds = [kind for kind in PICTURES if kind != "original" or shown.originals]
    hidden = [not shown.originals and shows_original(row) for row in picked]
    strips = {}
    for kind in kinds:
        files = [row.get(kind) for row in picked]
        if kind == "result":
            files = [None if private else file for file, private in zip(files, hidden, strict=True)]
        if any(files):
            strips[kind] = strip(run.folder, files, SIDE)
    tried = [[row[name] for name in named if row.get(name) is not None] for row in picked]
    return {
        "who": [row["label"] for row in picked],
        "hidden": hidden,
        "named": [[int(sum(each)), len(each)] for each in tried],
        "judges": sorted(judges),
        "strips": strips,
    }


def _pairs(found: Sequence[Candidate], pairs: Sequence[Row], settings: Sequence[str]) -> list[dict[str, Any]]:
    """Comparisons by figure and by what both maskers share."""
    fixed = [name for name in settings if name != "masker"]
    varying = [name for name in fixed if len({str(one.settings.get(name)) for one in found}) > 1]
    families: dict[tuple[str, str], list[Any]] = {}
    for row in pairs:
        where = ", ".join(f"{name} {row[name]}" for name in varying) or "all"
        numbers = [round(row[name], 5) for name in ("difference", "low", "high", "p_holm")]
        families.setdefault((row["figure"], where), []).append([row["first"], row["second"], *numbers])
    return [{"figure": figure, "where": where, "rows": rows} for (figure, where), rows in families.items()]


def _flags(found: Sequence[Candidate]) -> Mapping[str, int]:
    """How many configs raise each kind, the most frequent first."""
    kinds = [kind for one in found for kind in one.flags]
    return dict(sorted({kind: kinds.count(kind) for kind in kinds}.items(), key=lambda pair: -pair[1]))
