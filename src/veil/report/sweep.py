"""What a sweep found: one table over its runs, and maskers against each other on the same probes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from omegaconf import OmegaConf
from rich.table import Table

from veil.evaluation.results import column_names, read_results
from veil.metrics.identification import RANKS
from veil.metrics.image import SSIM
from veil.metrics.information import BITS
from veil.metrics.intervals import Interval
from veil.metrics.measure import ANONYMISED, CHANCE, CLEAR, CONTROL, NAIVE, WORST, Figure, name_of
from veil.metrics.paired import Column, holm, mcnemar, paired_difference
from veil.metrics.privacy import FOOLED
from veil.report.knobs import flat
from veil.storage.folders import Row, read_manifest, write_csv
from veil.storage.progress import console

ANYHOW = (
    "anonymized",
    "attacks",
    "controls",
    "features",
    "judges",
    "logger",
    "metrics",
    "trainer",
)  # change no picture
SPEED = ("batch_size", "cache", "cache_limit", "cache_scores", "outputs", "workers")
RESAMPLES = 10_000  # of people: a p-value can be 2e-4, which a correction for many leaves small


def paired_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rank-1 of every attack and judge, second run less first, for each two runs that differ in the masker, or its
    knobs, alone.

    `low`, `high` (95 %) and `p` are by resampled people; `p_holm` is corrected for all the comparisons of one figure
    (Holm 1979); `p_mcnemar` takes probes as independent.
    """
    rows = []
    columns = {run["folder"]: _columns(run) for run in runs}
    for first, second in combinations(runs, 2):
        before, after = columns[first["folder"]], columns[second["folder"]]
        if first["label"] == second["label"] or first["else"] != second["else"]:
            continue
        for name in before.keys() & after.keys():
            if set(before[name].keys) != set(after[name].keys):
                continue
            found = paired_difference(before[name], after[name], RESAMPLES)
            rows.append(
                {
                    **{key: first[key] for key in SETTINGS if key != "masker"},
                    "figure": name,
                    "first": first["label"],
                    "second": second["label"],
                    **found._asdict(),
                    "p_mcnemar": mcnemar(before[name], after[name]).p,
                }
            )
    for name in {row["figure"] for row in rows}:
        family = [row for row in rows if row["figure"] == name]
        for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = corrected
    return sorted(rows, key=lambda row: (row["figure"], row["ratio"]))


def _columns(run: Mapping[str, Any]) -> dict[str, Column]:
    """Rank-1 of each probe, by the name of its figure."""
    rows = read_manifest(Path(run["folder"]))
    keys, people = [row["key"] for row in rows], np.array([row["label"] for row in rows])
    figures = run["results"].figures.values()
    names = column_names(figures, RANKS[1], {figure.subject for figure in figures})
    return {
        name: Column(keys, np.array([row[name] for row in rows]), people) for name in names if rows and name in rows[0]
    }


SETTINGS = ("data", "recognizer", "masker", "inpainter", "ratio", "seed")
PRIVACY = (BITS, FOOLED)  # across, in the frontier: the worst case's bits or, of runs without, who is fooled

Run = dict[str, Any]


def summarise(folders: Sequence[Path], sweep: Path) -> None:
    """Read finished runs; print a table, write `summary.csv`, `paired.csv` and `frontier.png` into `sweep`."""
    runs = read_runs([folder for folder in folders if (folder / "metrics.json").exists()])
    if not runs:
        return
    write_csv([_flat(run) for run in runs], sweep / "summary.csv")
    console.print(_table(runs))
    console.print(f"Summary:  {sweep / 'summary.csv'}", soft_wrap=True)
    pairs = paired_rows(runs)
    if pairs:
        write_csv(pairs, sweep / "paired.csv")
        console.print(f"Paired:   {sweep / 'paired.csv'}", soft_wrap=True)
    if frontier(runs, sweep / "frontier.png"):
        console.print(f"Frontier: {sweep / 'frontier.png'}", soft_wrap=True)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Settings and figures of finished runs. A run's `label` is its masker, with the knobs in which runs of this masker
    differ; `else` is what else its pictures depend on.
    """
    runs = []
    for folder in folders:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        assert isinstance(config, dict)
        named, knobs = config.get("choices", {}), flat({"": config.get("masker") or {}})
        rest = {name: value for name, value in config.items() if name not in (*ANYHOW, *SPEED, "masker", "task")}
        rest["choices"] = {name: value for name, value in named.items() if name not in ("masker", "task")}
        choices = {key: named.get(key, "") for key in ("data", "recognizer", "masker", "inpainter")}
        own = {"ratio": config.get("ratio", ""), "seed": config["seed"], "folder": str(folder)}
        runs.append({**choices, **own, "results": read_results(folder), "knobs": knobs, "else": rest})
    for run in runs:
        same = [other["knobs"] for other in runs if other["masker"] == run["masker"] and other["else"] == run["else"]]
        turned = [name for name in run["knobs"] if any(other.get(name) != run["knobs"][name] for other in same)]
        run["label"] = " ".join([run["masker"], *(f"{name.lstrip('/')}={run['knobs'][name]}" for name in turned)])
    return runs


def _flat(run: Run) -> dict[str, Any]:
    row = {key: run[key] for key in SETTINGS}
    for name, figure in run["results"].measured.items():
        value, low, high, n = figure.interval
        row |= {name: value, f"{name}/low": low, f"{name}/high": high, f"{name}/n": n}
    row["masker"] = run["label"]
    return row | {"flags": "; ".join(map(str, run["results"].flags)), "folder": run["folder"]}


def _table(runs: Sequence[Run]) -> Table:
    """One line a run: the settings that vary, the figures that matter most, and how many flags were raised."""
    settings = [key for key in SETTINGS if len({run[key] for run in runs}) > 1 or key in ("masker", "ratio")]
    shown = [figure for figure in runs[0]["results"].measured.values() if _headline(figure)]
    names = ["\n".join(part for part in (figure.subject, figure.measure.name) if part) for figure in shown]
    table = Table(*settings, *names, "flags")
    for run in runs:
        cells = [_cell(run["results"].measured.get(figure.name)) for figure in shown]
        own = (str(run["label" if key == "masker" else key]) for key in settings)
        table.add_row(*own, *cells, str(len(run["results"].flags)))
    table.add_section()
    for label, floor in _floors(runs[0], shown).items():
        cells = [_cell(figure) if figure else "" for figure in floor]
        table.add_row(label, *[""] * (len(settings) - 1), *cells)
    return table


def _headline(figure: Figure) -> bool:
    """Whether a figure has a column in the console; `summary.csv` has them all."""
    if figure.condition != ANONYMISED or figure.attack not in ("", NAIVE) or figure.group:
        return False
    return figure.measure == BITS if figure.subject == WORST else figure.measure.prominence == 3


def _floors(run: Run, shown: Sequence[Figure]) -> dict[str, list[Figure | None]]:
    """Ceiling and floors of a run's figures, under those that they bound; the runs of a data set share them."""
    measured = run["results"].measured
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
    value, low, high, _ = figure.interval
    return f"{value:.2f}\n[dim]{low:.2f}..{high:.2f}[/]"


def frontier(runs: Sequence[Run], path: Path) -> bool:
    """Utility against privacy, a line for each masker and inpainter, error bars of 95 %; whether all runs have both."""
    places = [(measure, subject) for measure in PRIVACY for subject in (WORST, runs[0]["recognizer"])]
    across = next((place for place in places if all(name_of(*place) in run["results"].measured for run in runs)), None)
    lines: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run["ratio"] or 0):
        if name_of(SSIM) in run["results"].measured:
            lines.setdefault(f"{run['label']} + {run['inpainter']}", []).append(run)
    if across is None or not lines:
        return False
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for label, line in lines.items():
        x, y = ([run["results"].measured[name].interval for run in line] for name in (name_of(*across), name_of(SSIM)))
        across_at, up_at = ([point.value for point in part] for part in (x, y))
        axes.errorbar(across_at, up_at, xerr=_reach(x), yerr=_reach(y), marker="o", capsize=2, label=label)
        for at, run in zip(zip(across_at, up_at, strict=True), line, strict=True):
            if run["ratio"]:
                axes.annotate(f"{run['ratio']:g}", at, textcoords="offset points", xytext=(5, 5), fontsize=8)
    measure, subject = across
    axes.set(xlabel=f"{measure.meaning}, {subject} (95 % interval)", ylabel="SSIM of the face")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True


def _reach(intervals: Sequence[Interval]) -> list[list[float]]:
    """Lengths of error bars below and above; rounding can leave a bound on the wrong side of its value."""
    below = [max(part.value - part.low, 0.0) for part in intervals]
    return [below, [max(part.high - part.value, 0.0) for part in intervals]]
