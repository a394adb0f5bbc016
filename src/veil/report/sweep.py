"""One table and one picture over many runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from omegaconf import OmegaConf
from rich.table import Table

from veil.progress import console
from veil.report.pairs import paired_rows
from veil.store import write_csv

SETTINGS = ("data", "recognizer", "masker", "inpainter", "ratio", "seed")
SHOWN = ("fooled", "rank1", "bits", "ssim", "detected")  # in the console; summary.csv has them all
UTILITY = "utility/ssim"  # up, in the frontier
PRIVACY = {  # across, the first that a run has, by the end of its name
    "privacy/worst/bits": "bits of identity left to the worst attack (95 % interval)",
    "/fooled": "faces that fool the recogniser (share, 95 % interval)",
}

Run = dict[str, Any]


def summarise(folders: Sequence[Path], sweep: Path) -> None:
    """Read finished runs; print a table, write `summary.csv`, `paired.csv` and `frontier.png` into `sweep`."""
    runs = [read_run(folder) for folder in folders if (folder / "metrics.json").exists()]
    if not runs:
        return
    write_csv([_flat(run) for run in runs], sweep / "summary.csv")
    console.print(_table(runs))
    console.print(f"Summary:  {sweep / 'summary.csv'}", soft_wrap=True)
    pairs = paired_rows(runs)
    if pairs:
        write_csv(pairs, sweep / "paired.csv")
        console.print(f"Paired:   {sweep / 'paired.csv'}", soft_wrap=True)
    if any(UTILITY in run["metrics"] for run in runs):
        frontier(runs, sweep / "frontier.png")
        console.print(f"Frontier: {sweep / 'frontier.png'}", soft_wrap=True)


def read_run(folder: Path) -> Run:
    """Settings and figures of a finished run."""
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(config, dict)
    figures = json.loads((folder / "metrics.json").read_text())
    named = config.get("choices", {})
    choices = {key: named.get(key, "") for key in ("data", "recognizer", "masker", "inpainter")}
    return {**choices, "ratio": config.get("ratio", ""), "seed": config["seed"], "folder": str(folder), **figures}


def _flat(run: Run) -> dict[str, Any]:
    row = {key: run[key] for key in SETTINGS}
    for name, figure in run["metrics"].items():
        row |= {name: figure["value"], f"{name}/low": figure["low"], f"{name}/high": figure["high"]}
        row[f"{name}/n"] = figure["n"]
    return row | {"flags": "; ".join(run["flags"]), "folder": run["folder"]}


def _table(runs: Sequence[Run]) -> Table:
    """One line a run: the settings that vary, the figures that matter most, and how many flags were raised."""
    settings = [key for key in SETTINGS if len({run[key] for run in runs}) > 1 or key in ("masker", "ratio")]
    names = [
        name
        for name in runs[0]["metrics"]
        if name.split("/")[-1] in SHOWN
        and name.count("/") < 3
        and name.startswith(("privacy", "utility"))
        and (name.startswith("privacy/worst") == name.endswith("/bits"))
    ]
    table = Table(*settings, *(name.split("/", 1)[-1].replace("/", "\n") for name in names), "flags")
    for run in runs:
        cells = [_cell(run["metrics"].get(name)) for name in names]
        table.add_row(*(str(run[key]) for key in settings), *cells, str(len(run["flags"])))
    table.add_section()
    for label, floor in _floors(runs[0]).items():
        table.add_row(
            label, *[""] * (len(settings) - 1), *(_cell(floor[name]) if name in floor else "" for name in names)
        )
    return table


def _floors(run: Run) -> dict[str, dict[str, Mapping[str, float]]]:
    """Ceiling and floors of a run's privacy figures, under the names that they bound; a data set's runs share them."""
    floors: dict[str, dict[str, Mapping[str, float]]] = {}
    judges = {name.split("/")[1] for name in run["metrics"] if name.startswith("clear/")}
    for name, figure in run["metrics"].items():
        kind, *rest = name.split("/")
        if kind == "clear":
            floors.setdefault("[dim]clear photos[/]", {})["/".join(["privacy", *rest])] = figure
        elif name == "control/chance/rank1":
            floors["[dim]chance[/]"] = {f"privacy/{judge}/rank1": figure for judge in judges}
        elif kind == "control":
            floors.setdefault(f"[dim]{rest[0]}, whole view[/]", {})["/".join(["privacy", *rest[1:]])] = figure
    return floors


def _cell(figure: Mapping[str, float] | None) -> str:
    return f"{figure['value']:.2f}\n[dim]{figure['low']:.2f}..{figure['high']:.2f}[/]" if figure else "absent"


def frontier(runs: Sequence[Run], path: Path) -> None:
    """Utility against privacy, one line for each masker and inpainter, error bars of 95 %."""
    lines: dict[str, list[Run]] = {}
    ending = next((end for end in PRIVACY if all(_privacy(run, end) for run in runs)), "")
    for run in sorted(runs, key=lambda run: run["ratio"]):
        if ending and UTILITY in run["metrics"]:
            lines.setdefault(f"{run['masker']} + {run['inpainter']}", []).append(run)
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for label, line in lines.items():
        across = [run["metrics"][_privacy(run, ending)] for run in line]
        up = [run["metrics"][UTILITY] for run in line]
        x, y = [point["value"] for point in across], [point["value"] for point in up]
        axes.errorbar(x, y, xerr=_reach(across), yerr=_reach(up), marker="o", capsize=2, label=label)
        for at, run in zip(zip(x, y, strict=True), line, strict=True):
            axes.annotate(f"{run['ratio']:g}", at, textcoords="offset points", xytext=(5, 5), fontsize=8)
    axes.set(xlabel=PRIVACY.get(ending, "no privacy figure that all runs have"), ylabel="SSIM of the face")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _privacy(run: Run, ending: str) -> str:
    """Name of the run's privacy figure; empty where it has none."""
    return next((name for name in run["metrics"] if name.endswith(ending)), "")


def _reach(figures: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """Lengths of error bars below and above."""
    return [[f["value"] - f["low"] for f in figures], [f["high"] - f["value"] for f in figures]]
