"""Tables for the console and the page."""

import csv
from pathlib import Path
from typing import Any

from rich.table import Table

from veil.evaluation.results import Results
from veil.metrics.measure import ANONYMISED, CLEAR, CONTROL, NAIVE, WORST, Figure, percent


def shown(figure: Figure) -> bool:
    """Whether a figure is worth a line in the console; `metrics.json` and the page have them all."""
    if figure.group:
        return False
    plain = figure.attack in ("", NAIVE) and not figure.control
    wanted = 3 if not plain else 1 if figure.condition == ANONYMISED else 2
    return figure.measure.prominence >= wanted


def metrics_table(results: Results) -> Table:
    """The figures that matter most, with intervals; one that could not be measured is shown with its reason."""
    table = Table("metric", "value", "95 % interval", "n", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    figures = [figure for figure in results.figures.values() if shown(figure)]
    for figure in figures:
        if not figure.absent:
            value, low, high, n = figure.interval
            table.add_row(figure.name, f"{value:.3f}", f"{low:.3f} .. {high:.3f}", str(n))
    for figure in figures:
        if figure.absent:
            table.add_row(figure.name, "absent", figure.absent, "")
    return table


def page_tables(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Rows of the table of figures by section; absent ones have a reason in place of a value."""
    flagged = {name for flag in results.flags for name in flag.figures}
    tables: dict[str, list[dict[str, Any]]] = {}
    for figure in sorted(results.figures.values(), key=_section):
        row: dict[str, Any] = {
            "name": figure.name,
            "meaning": figure.measure.meaning,
            "flagged": figure.name in flagged,
        }
        if figure.absent:
            row["absent"] = figure.absent
        else:
            value, low, high, n = figure.interval
            row |= {"value": figure.measure.text(value), "interval": figure.measure.between(low, high), "n": n}
        tables.setdefault(_section(figure)[1], []).append(row)
    return tables


def group_tables(path: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows of `groups.csv` by judge and attack, the least protected group first; empty where the data had no labels."""
    from veil.metrics.identification import RANKS  # loads torch, which the console's table does without

    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row["rank1"]))
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        reach = RANKS[1].between(float(row["low"]), float(row["high"]))
        shown_row = row | {"value": percent(float(row["rank1"])), "interval": reach}
        tables.setdefault((row["judge"], row["attack"]), []).append(shown_row)
    return dict(sorted(tables.items()))


def _section(figure: Figure) -> tuple[int, str]:
    """Place and title of the section that a figure stands in."""
    if figure.condition == CLEAR:
        return 2, "Ceilings, on clear photos"
    if figure.condition == CONTROL:
        return 3, "Floors: chance, and the naive attack on controls"
    if figure.measure.kind == "privacy":
        worst = figure.subject in ("", WORST)
        return (0, "The worst case") if worst else (1, f"Attacks by {figure.subject}")
    return {"utility": (4, "What is left of the picture"), "minimal": (5, "How much it takes")}.get(
        figure.measure.kind, (6, "Checks")
    )
