"""Copy an anonymised set for others: without originals, names, labels and, unless asked for, masks."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from omegaconf import OmegaConf
from PIL import Image

from veil.config import Config
from veil.errors import InputError
from veil.faces.pictures import shows
from veil.storage.fingerprint import content
from veil.storage.folders import Row, write_csv
from veil.storage.progress import console
from veil.tasks.anonymize import made_set
from veil.tasks.setup import Setup

ROOMS = {"result": "results", "mask": "masks"}
METHOD = (
    "ratio",
    "hide_at_far",
    "cells",
    "protect",
    "image_format",
)  # of the config; the rest may hold names and paths


def share(config: Config) -> Path:
    """Copy pictures of this config's probes, and with `task.masks` their masks, into the new folder `task.output`,
    numbered in an order that tells nothing, with `manifest.csv` (files and ratios) and `method.json`. The set is made
    first, if it is not there.

    A result that equals an original of the set, or nearly, is left out and counted. Raises InputError where
    `task.output` is there already, or no picture may be shared.
    """
    output = Path(str(config.task["output"])).expanduser()
    if output.exists():
        raise InputError(f"task.output must be a new folder, got {output}")
    setup = Setup(config)
    made = made_set(setup)
    source, done = made.path, made.rows()
    rows = [done[key] for key in setup.sides[0].probes.keys if key in done]
    rows.sort(key=lambda row: content(source / row["result"], config.cache))
    originals = Originals(source, rows)
    shared = [row for row in rows if not originals.show_in(row)]
    if not shared:
        raise InputError(f"task=share: all {len(rows)} results in {source} equal their originals, or nearly")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as place:
        partial = Path(place) / output.name
        rooms = ROOMS if config.task["masks"] else {"result": ROOMS["result"]}
        for room in rooms.values():
            (partial / room).mkdir(parents=True)
        copied = [_copied(source, row, number, partial, rooms) for number, row in enumerate(shared, 1)]
        write_csv(copied, partial / "manifest.csv")
        (partial / "method.json").write_text(json.dumps(_method(source), indent=1))
        partial.rename(output)
    console.print(f"Shared: {output}, {len(shared)} pictures; {len(rows) - len(shared)} left out", soft_wrap=True)
    return output


class Originals:
    """The originals of a set, and whether a result shows one: its own, or another that looks most like it."""

    def __init__(self, source: Path, rows: Sequence[Row]) -> None:
        self.source, self.rows = source, rows
        self.small = np.stack([_small(source / row["original"]) for row in rows])

    def show_in(self, row: Row) -> bool:
        """Whether the result equals an original, or nearly (`veil.faces.pictures.nearly_equal`)."""
        result, mask = self.source / row["result"], self.source / row["mask"] if row["mask"] else None
        if shows(self.source / row["original"], result, mask):
            return True
        nearest = self.rows[int((self.small @ _small(result)).argmax())]
        return nearest["key"] != row["key"] and shows(self.source / nearest["original"], result, None)


def _small(path: Path) -> ndarray:
    """The middle of a picture in 32 x 32 greys, as a unit vector without its mean."""
    with Image.open(path) as image:
        greys = np.asarray(image.convert("L").crop((48, 48, 208, 208)).resize((32, 32)), float).ravel()
    greys -= greys.mean()
    return greys / max(np.linalg.norm(greys), 1e-9)


def _copied(source: Path, row: Row, number: int, folder: Path, rooms: Mapping[str, str]) -> Row:
    copied: Row = {}
    for kind, room in rooms.items():
        if row[kind]:
            copied[kind] = f"{room}/{number:06d}{Path(row[kind]).suffix}"
            shutil.copyfile(source / row[kind], folder / copied[kind])
    return copied | {name: row.get(name) for name in ("requested", "achieved")}


def _method(source: Path) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(OmegaConf.load(source / "config.yaml"))
    if config["ratio"] is None:
        return {"made_by": "another tool"}
    return {name: config["choices"][name] for name in ("masker", "inpainter")} | {name: config[name] for name in METHOD}
