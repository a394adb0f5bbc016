"""Tables for the console and the page."""

import csv
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich.table import Table

from veil.report.words import MEANINGS, amount, between, percent

# In the console; `metrics.json` and the page have them all. `*` is one part of a name.
SHOWN = (
    "clear/*/accuracy",
    "clear/*/nearest_centroid",
    "clear/*/rank1",
    "clear/*/tar@far=1e-3",
    "control/chance/rank1",
    "control/*/*/rank1",
    "held_out/*/tar@far=*",
    "privacy/*/accuracy",
    "privacy/*/fooled",
    "privacy/*/cosine",
    "privacy/*/rank1",
    "privacy/*/rank5",
    "privacy/*/tar@far=1e-3",
    "privacy/*/bits",
    "privacy/*/*/rank1",
    "privacy/transfer_gap",
    "utility/ssim",
    "utility/psnr",
    "utility/detected",
    "utility/landmark_error",
    "utility/kid/*",
    "check/*",
    "minimal/*",
    "minimal/*/*",
)


def shown(name: str) -> bool:
    """Whether a figure is worth a line in the console."""
    parts = name.split("/")
    patterns = (pattern.split("/") for pattern in SHOWN)
    return any(len(pattern) == len(parts) and all(map(fnmatchcase, parts, pattern)) for pattern in patterns)


def metrics_table(figures: Mapping[str, Any]) -> Table:
    """The figures that matter most, with intervals; one that could not be measured is shown with its reason."""
    table = Table("metric", "value", "95 % interval", "n", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, figure in ((name, figure) for name, figure in figures["metrics"].items() if shown(name)):
        interval = f"{figure['low']:.3f} .. {figure['high']:.3f}"
        table.add_row(name, f"{figure['value']:.3f}", interval, str(figure["n"]))
    for name, reason in ((name, reason) for name, reason in figures["absent"].items() if shown(name)):
        table.add_row(name, "absent", reason, "")
    return table


def page_tables(figures: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the table of figures by section; absent ones have a reason in place of a value."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in sorted([*figures["metrics"], *figures["absent"]], key=lambda name: _section(name)):
        figure_name, _, label = name.rsplit("/", 1)[-1].partition("_gap@")
        meaning = f"between groups of {label}: the highest rank-1 less the lowest" if label else ""
        row = {"name": name, "meaning": meaning or MEANINGS.get(figure_name, "")}
        if name in figures["metrics"]:
            figure = figures["metrics"][name]
            interval = between(name, figure["low"], figure["high"])
            row |= {"value": amount(name, figure["value"]), "interval": interval, "n": figure["n"]}
        else:
            row["absent"] = figures["absent"][name]
        row["flagged"] = any(name in flag.split() for flag in figures["flags"])
        tables.setdefault(_section(name)[1], []).append(row)
    return tables


def group_tables(path: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows of `groups.csv` by judge and attack, the least protected group first; empty where the data had no labels."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row["rank1"]))
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        reach = between("rank1", float(row["low"]), float(row["high"]))
        shown_row = row | {"value": percent(float(row["rank1"])), "interval": reach}
        tables.setdefault((row["judge"], row["attack"]), []).append(shown_row)
    return dict(sorted(tables.items()))


def _section(name: str) -> tuple[int, str]:
    """Place and title of the section that a figure stands in."""
    kind, *rest = name.split("/")
    if kind == "privacy":
        worst = len(rest) == 1 or rest[0] == "worst"
        return (0, "The worst case") if worst else (1, f"Attacks by {rest[0]}")
    places = {
        "clear": (2, "Ceilings, on clear photos"),
        "control": (3, "Floors: chance, and the naive attack on controls"),
        "utility": (4, "What is left of the picture"),
        "minimal": (5, "How much it takes"),
    }
    return places.get(kind, (6, "Checks"))
