"""Tables for the console and the page."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from veil.evaluation.results import Results
from veil.metrics.measure import ANONYMISED, CLEAR, CONTROL, NAIVE, WORST, Figure, percent
from veil.storage.progress import console


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


def write_parquet(table: Path) -> None:
    """The same table, a CSV, beside it in the form that pandas, polars and DuckDB read: numbers are numbers. Without
    pyarrow it is not written, and a line says so.
    """
    path = table.with_suffix(".parquet")
    try:
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        console.print(f"{path.name} is not written: it needs pyarrow, `pip install 'veil[parquet]'`", soft_wrap=True)
        return
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(table), path)


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a README."""
    whole = [[cell.replace("|", r"\|") for cell in line] for line in (heading, ["---"] * len(heading), *rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in whole)


def latex(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a paper: `booktabs`; every special character is escaped."""
    special = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"} | {"\\": r"\textbackslash{}"})
    special |= str.maketrans({"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
    first, *others = (" & ".join(cell.translate(special) for cell in line) + r" \\" for line in (heading, *rows))
    opening = [rf"\begin{{tabular}}{{{'l' * len(heading)}}}", r"\toprule", first, r"\midrule"]
    return "\n".join([*opening, *others, r"\bottomrule", r"\end{tabular}", ""])


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
