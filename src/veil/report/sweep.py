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
from veil.store import write_csv

SHOWN = ("fooled", "accuracy", "rank1", "cosine", "ssim", "detected")  # in the console; summary.csv has them all
UTILITY, PRIVACY = "utility/ssim", "fooled"  # the frontier's axes

Run = dict[str, Any]


def summarise(folders: Sequence[Path], sweep: Path) -> None:
    """Read finished runs; print a table, write `summary.csv` and `frontier.png` into `sweep`."""
    runs = [_read(folder) for folder in folders if (folder / "metrics.json").exists()]
    if not runs:
        return
    write_csv([_flat(run) for run in runs], sweep / "summary.csv")
    console.print(_table(runs))
    console.print(f"Summary:  {sweep / 'summary.csv'}", soft_wrap=True)
    if any(UTILITY in run["metrics"] for run in runs):
        frontier(runs, sweep / "frontier.png")
        console.print(f"Frontier: {sweep / 'frontier.png'}", soft_wrap=True)


def _read(folder: Path) -> Run:
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(config, dict)
    figures = json.loads((folder / "metrics.json").read_text())
    named = config.get("choices", {})
    choices = {key: named.get(key, "") for key in ("data", "recognizer", "masker", "inpainter")}
    return {**choices, "ratio": config.get("ratio", ""), "seed": config["seed"], "folder": str(folder), **figures}


def _flat(run: Run) -> dict[str, Any]:
    row = {key: run[key] for key in ("data", "recognizer", "masker", "inpainter", "ratio", "seed")}
    for name, figure in run["metrics"].items():
        row |= {name: figure["value"], f"{name}/low": figure["low"], f"{name}/high": figure["high"]}
        row[f"{name}/n"] = figure["n"]
    return row | {"flags": "; ".join(run["flags"]), "folder": run["folder"]}


def _table(runs: Sequence[Run]) -> Table:
    names = [name for name in runs[0]["metrics"] if name.split("/")[-1] in SHOWN and not name.startswith("clear")]
    table = Table("masker", "inpainter", "ratio", "seed", *(name.removeprefix("privacy/") for name in names), "flags")
    for run in runs:
        cells = [_cell(run["metrics"].get(name)) for name in names]
        settings = (run["masker"], run["inpainter"], f"{run['ratio']}", f"{run['seed']}")
        table.add_row(*settings, *cells, str(len(run["flags"])))
    return table


def _cell(figure: Mapping[str, float] | None) -> str:
    return f"{figure['value']:.2f} [dim]{figure['low']:.2f}..{figure['high']:.2f}[/]" if figure else "absent"


def frontier(runs: Sequence[Run], path: Path) -> None:
    """Utility against privacy, one line for each masker and inpainter, error bars of 95 %."""
    lines: dict[str, list[tuple[Mapping[str, float], Mapping[str, float], float]]] = {}
    for run in runs:
        privacy = next((run["metrics"][name] for name in run["metrics"] if name.endswith(f"/{PRIVACY}")), None)
        if privacy and UTILITY in run["metrics"]:
            label = f"{run['masker']} + {run['inpainter']}"
            lines.setdefault(label, []).append((privacy, run["metrics"][UTILITY], run["ratio"]))
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for label, points in lines.items():
        points.sort(key=lambda point: point[2])
        x, y = ([point[axis]["value"] for point in points] for axis in (0, 1))
        bars = [_reach([point[axis] for point in points]) for axis in (0, 1)]
        axes.errorbar(x, y, xerr=bars[0], yerr=bars[1], marker="o", capsize=2, label=label)
        for privacy, utility, ratio in points:
            at = (privacy["value"], utility["value"])
            axes.annotate(f"{ratio:g}", at, textcoords="offset points", xytext=(5, 5), fontsize=8)
    axes.set(xlabel="faces that fool the recogniser (share, 95 % interval)", ylabel="SSIM of the face", xlim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _reach(figures: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """Lengths of error bars below and above."""
    return [[f["value"] - f["low"] for f in figures], [f["high"] - f["value"] for f in figures]]
