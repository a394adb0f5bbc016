"""The learning curve: one line an epoch, drawn at the end."""

import csv
import time
from pathlib import Path

import pytorch_lightning as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from veil.storage.folders import Row, write_csv


class Curve(pl.Callback):
    """Writes what is logged in each epoch, and its seconds (training and validation), to a CSV file.

    A run that goes on where it was killed goes on with the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.seconds = path, list[float]()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Forget the epochs that are done again."""
        self.rows = [row for row in read_curve(self.path) if row["epoch"] < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the time."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add a line."""
        self.seconds.append(time.perf_counter() - self.started)
        module.log("train/seconds", self.seconds[-1], sync_dist=True)
        logged = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": trainer.current_epoch, "train/seconds": round(self.seconds[-1], 3)}
        self.rows.append(row | {name: value for name, value in logged.items() if name not in row})
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_csv(self.rows, self.path)


def read_curve(path: Path) -> list[Row]:
    """The lines of a curve, as numbers; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def draw_curve(path: Path) -> Figure:
    """Losses, and shares (accuracy, TAR@FAR), by epoch."""
    rows = read_curve(path)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, shares = figure.subplots(1, 2)
    for axes, title, wanted in ((losses, "loss", ("loss",)), (shares, "share", ("accuracy", "tar@"))):
        for name in sorted({name for row in rows for name in row if any(part in name for part in wanted)}):
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), label=name, marker=".")
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    losses.set_yscale("log")
    return figure
