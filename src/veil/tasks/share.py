"""Copy an anonymised set for others: without originals, names and labels."""

import json
import shutil
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
from veil.tasks.anonymize import adopted_set, anonymized_set
from veil.tasks.setup import Setup

METHOD = (
    "ratio",
    "hide_at_far",
    "cells",
    "protect",
    "image_format",
)  # of the config; the rest may hold names and paths
ALIKE = 40.0  # dB; a result that is nearer to its original shows the original


def share(config: Config) -> Path:
    """Copy pictures and masks of this config's set into the new folder `task.output`, numbered in an order that tells
    nothing, with `manifest.csv` (files and ratios) and `method.json`. The set is made first, if it is not there.

    A result that equals its original, or nearly, is left out and counted. Raises InputError where `task.output` is
    there already, or no picture may be shared.
    """
    output = Path(config.task["output"]).expanduser()
    if output.exists():
        raise InputError(f"task.output must be a new folder, got {output}")
    made = (anonymized_set if config.anonymized is None else adopted_set)(Setup(config))
    source = made.path
    rows = sorted(made.rows().values(), key=lambda row: content(source / row["result"], config.cache))
    shared = [row for row in rows if not shows_its_original(source, row)]
    if not shared:
        raise InputError(f"task=share: all {len(rows)} results in {source} equal their originals, or nearly")
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for kind in ("results", "masks"):
        (partial / kind).mkdir(parents=True)
    write_csv([_copied(source, row, number, partial) for number, row in enumerate(shared, 1)], partial / "manifest.csv")
    (partial / "method.json").write_text(json.dumps(_method(source), indent=1))
    partial.rename(output)
    console.print(f"Shared: {output}, {len(shared)} pictures; {len(rows) - len(shared)} left out", soft_wrap=True)
    return output


def shows_its_original(source: Path, row: Row) -> bool:
    """Whether a result is as good as its original: PSNR over the mask, or over everything where there is none."""
    original, result = (_pixels(source / row[kind]) for kind in ("original", "result"))
    change = (original - result) ** 2
    if row["mask"]:
        change = change[_pixels(source / row["mask"]) > 0]
    return bool(change.size == 0 or change.mean() < 255**2 / 10 ** (ALIKE / 10))


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
