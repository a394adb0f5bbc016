"""What finished runs say together: tables, maskers against each other, the frontier, the page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from veil.errors import InputError
from veil.metrics.measure import ANONYMISED, CHANCE, CLEAR, CONTROL, NAIVE, WORST, Figure
from veil.report.compare import paired_rows
from veil.report.frontier import Frontier, axes, draw, frontier
from veil.report.index import Shown, write_index
from veil.report.runs import Candidate, Run, candidates, read_runs, setting_text
from veil.report.tables import latex, markdown, write_parquet
from veil.storage.folders import Row, write_csv
from veil.storage.progress import console
from veil.storage.text import legible

LINES = 40  # of the console's table; of more candidates those are shown that no other beats


class Options(NamedTuple):
    """What `conf/task/report.yaml` may ask for."""

    originals: bool = False
    people: int = 6
    pictured: int = 200
    tables: bool = False
    axes: Sequence[str] = ()


DEFAULT = Options()


def summarise(folders: Sequence[Path], output: Path, options: Options = DEFAULT) -> int:
    """Read finished runs; print a table; write `index.html`, `summary.csv` and `.parquet` (seeds averaged), `runs.csv`
    (every run), `paired.csv` and `frontier.png` into `output`. Gives the number of runs; without any it writes nothing.
    Raises InputError where the two figures of `axes` are not there.
    """
    runs = read_runs([folder for folder in folders if (folder / "metrics.json").exists()])
    if not runs:
        return 0
    found = candidates(runs)
    _refuse_other_axes(found, options.axes)
    best = frontier(found, options.axes)
    output.mkdir(parents=True, exist_ok=True)
    write_csv([_run_row(run) for run in runs], output / "runs.csv")
    write_csv([_summary_row(one) for one in found], output / "summary.csv")
    console.print(_table(found, best))
    _say("Summary", output / "summary.csv")
    write_parquet(output / "summary.csv")
    if options.tables:
        shown = _headlines(found)
        for suffix, written in (("md", markdown), ("tex", latex)):
            (output / f"summary.{suffix}").write_text(written(*_cells(found, shown)))
    pairs = paired_rows(found)
    if pairs:
        write_csv(pairs, output / "paired.csv")
        _say("Paired", output / "paired.csv")
    if best:
        draw(best, output / "frontier.png")
        _say("Frontier", output / "frontier.png")
        told = f"{len(best.front)} of {len(best.found)} configs are not dominated; hypervolume {best.volume:.3f}"
        console.print(told, soft_wrap=True)
    _say("Page", write_index(found, best, pairs, output, Shown(options.originals, options.people, options.pictured)))
    return len(runs)


def _refuse_other_axes(found: Sequence[Candidate], asked: Sequence[str]) -> None:
    known = {axis.figure.name for axis in axes(found, asked)}
    if asked and not (len(asked) == len(set(asked)) == 2 and set(asked) <= known):
        told = ", ".join(sorted(known))
        raise InputError(f"task.axes must be two figures that tell these runs apart ({told}), got {list(asked)}")


def _say(title: str, path: Path) -> None:
    console.print(f"{title + ':':<9} {path}", soft_wrap=True)


def _run_row(run: Run) -> Row:
    row = {**run.settings, "seed": run.seed} | _figures(run.results.measured)
    return row | {"flags": "; ".join(map(str, run.results.flags)), "folder": legible(str(run.folder))}


def _summary_row(one: Candidate) -> Row:
    row = {**one.settings, "seeds": len(one.runs)} | _figures(one.measured)
    return row | {"flags": "; ".join(one.flags), "folders": " ".join(legible(str(run.folder)) for run in one.runs)}


def _figures(measured: Mapping[str, Figure]) -> Row:
    row: Row = {}
    for name, figure in measured.items():
        value, low, high, n = figure.interval
        row |= {name: value, f"{name}/low": low, f"{name}/high": high, f"{name}/n": n}
    return row


def _headlines(found: Sequence[Candidate]) -> list[Figure]:
    """Figures that have a column in short tables; `summary.csv` has them all."""
    measured = {name: figure for one in found for name, figure in one.measured.items()}
    return [measured[name] for name in sorted(measured) if _headline(measured[name])]


def _headline(figure: Figure) -> bool:
    if figure.condition != ANONYMISED or figure.attack not in ("", NAIVE) or figure.group:
        return False
    if figure.subject == WORST:
        return figure.measure.name in ("bits", "rank1")
    return figure.measure.prominence == 3


def _settings(found: Sequence[Candidate]) -> list[str]:
    """Those that vary, and the masker and the ratio."""
    names = dict.fromkeys(name for one in found for name in one.settings)
    texts = {name: {str(one.settings.get(name)) for one in found} for name in names}
    return [name for name in names if name in ("masker", "ratio") or len(texts[name]) > 1]


def _cells(found: Sequence[Candidate], shown: Sequence[Figure]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the Markdown and the LaTeX table."""
    settings = _settings(found)
    heading = [*settings, "seeds", *(figure.name for figure in shown)]
    rows = []
    for one in found:
        measured = [one.measured.get(figure.name) for figure in shown]
        texts = ["absent" if figure is None else _text(figure).replace("\n", " ") for figure in measured]
        rows.append([*(setting_text(one.settings.get(name)) for name in settings), str(len(one.runs)), *texts])
    return heading, rows


def _table(found: Sequence[Candidate], best: Frontier | None) -> Table:
    """One line a config: the settings that vary, the figures that matter most, how many kinds of flag were raised."""
    lines = found if len(found) <= LINES else (best.front if best else found)[:LINES]
    settings, shown = _settings(found), _headlines(found)
    seeds = ["seeds"] if any(len(one.runs) > 1 for one in found) else []
    names = ["\n".join(part for part in (figure.subject, figure.measure.name) if part) for figure in shown]
    left = len(found) - len(lines)
    caption = f"and {left} others: summary.csv" if left else None
    table = Table(*settings, *seeds, *names, "kinds of\nflag", caption=caption)
    for one in lines:
        cells = [_cell(one.measured.get(figure.name)) for figure in shown]
        own = [setting_text(one.settings.get(name)) for name in settings] + [str(len(one.runs))] * len(seeds)
        table.add_row(*own, *cells, str(len(one.flags)))
    table.add_section()
    for label, floor in _floors(found, shown).items():
        cells = [_cell(figure) if figure else "" for figure in floor]
        table.add_row(label, *[""] * (len(settings) + len(seeds) - 1), *cells)
    return table


def _floors(found: Sequence[Candidate], shown: Sequence[Figure]) -> dict[str, list[Figure | None]]:
    """Ceiling and floors of the figures, under those that they bound: of the first run that has each. None where the
    runs are of several data sets.
    """
    if len({one.settings["data"] for one in found}) > 1:
        return {}
    measured = {name: figure for one in reversed(found) for name, figure in one.measured.items()}
    controls = {figure.control for figure in measured.values() if figure.condition == CONTROL}
    floors = {
        "[dim]clear photos[/]": [measured.get(replace(figure, condition=CLEAR, attack="").name) for figure in shown]
    }
    for control in sorted(controls):
        label = f"[dim]{control}[/]" if control == CHANCE else f"[dim]{control}, whole view[/]"
        floors[label] = []
        for figure in shown:
            subject = "" if control == CHANCE else figure.subject
            place = replace(figure, condition=CONTROL, control=control, subject=subject, attack="")
            floors[label].append(measured.get(place.name))
    return floors


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "absent"
    value, _, reach = _text(figure).partition("\n")
    return f"{value}\n[dim]{reach}[/]"


def _text(figure: Figure) -> str:
    value, low, high, _ = figure.interval
    return f"{value:.2f}\n({low:.2f}..{high:.2f})"
