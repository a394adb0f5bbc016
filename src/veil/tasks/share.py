"""Copy an anonymised set for others: without originals, names and labels."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from omegaconf import OmegaConf
from PIL import Image

from veil.config import Config
from veil.errors import InputError
from veil.storage.fingerprint import content
from veil.storage.folders import Row, write_csv
from veil.storage.progress import console
from veil.tasks.anonymize import made_set
from veil.tasks.setup import Setup
from veil.types import view_box

METHOD = (
    "ratio",
    "hide_at_far",
    "cells",
    "protect",
    "image_format",
)  # of the config; the rest may hold names and paths
ALIKE = 40.0  # dB, in the view: what compression alone leaves
REPAINTED = 30.0  # dB, in the mask


def share(config: Config) -> Path:
    """Copy pictures and masks of this config's probes into the new folder `task.output`, numbered in an order that
    tells nothing, with `manifest.csv` (files and ratios) and `method.json`. The set is made first, if it is not there.

    A result that equals its original, or nearly, is left out and counted. Raises InputError where `task.output` is
    there already, or no picture may be shared.
    """
    output = Path(config.task["output"]).expanduser()
    if output.exists():
        raise InputError(f"task.output must be a new folder, got {output}")
    setup = Setup(config)
    made = made_set(setup)
    source, done = made.path, made.rows()
    rows = [done[key] for key in setup.sides[0].probes.keys if key in done]
    rows.sort(key=lambda row: content(source / row["result"], config.cache))
    shared = [row for row in rows if not shows_its_original(source, row)]
    if not shared:
        raise InputError(f"task=share: all {len(rows)} results in {source} equal their originals, or nearly")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as place:
        partial = Path(place) / output.name
        for kind in ("results", "masks"):
            (partial / kind).mkdir(parents=True)
        copied = [_copied(source, row, number, partial) for number, row in enumerate(shared, 1)]
        write_csv(copied, partial / "manifest.csv")
        (partial / "method.json").write_text(json.dumps(_method(source), indent=1))
        partial.rename(output)
    console.print(f"Shared: {output}, {len(shared)} pictures; {len(rows) - len(shared)} left out", soft_wrap=True)
    return output


def shows_its_original(source: Path, row: Row) -> bool:
    """Whether a result is near its original: PSNR of at least `ALIKE` in the view, or of `REPAINTED` in the mask."""
    original, result = (_pixels(source / row[kind]) for kind in ("original", "result"))
    change = (original - result) ** 2
    near = _psnr(change[view_box(*change.shape[:2])]) >= ALIKE
    if row["mask"]:
        near = near or _psnr(change[_pixels(source / row["mask"]) > 0]) >= REPAINTED
    return near


def _psnr(squares: ndarray) -> float:
    return float(10 * np.log10(255**2 / max(squares.mean(), 1e-9)))


def _pixels(path: Path) -> ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float64)


def _copied(source: Path, row: Row, number: int, folder: Path) -> Row:
    copied: Row = {}
    for kind, room in (("result", "results"), ("mask", "masks")):
        if row[kind]:
            copied[kind] = f"{room}/{number:06d}{Path(row[kind]).suffix}"
            shutil.copyfile(source / row[kind], folder / copied[kind])
    return copied | {name: row.get(name) for name in ("requested", "achieved")}


def _method(source: Path) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(OmegaConf.load(source / "config.yaml"))
    if config["ratio"] is None:
        return {"made_by": "another tool"}
    return {name: config["choices"][name] for name in ("masker", "inpainter")} | {name: config[name] for name in METHOD}
