"""What is known of an album's photos: a table on disk, a line a photo, whole or not there."""

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from veil.albums.tracks import Track
from veil.albums.worker import Sighting
from veil.faces.align import Found
from veil.storage.faults import blamed

TABLE = "CREATE TABLE IF NOT EXISTS photos (name TEXT PRIMARY KEY, stamp TEXT, line TEXT)"


class Ledger:
    """Lines by the photo's name. Several processes may have it open: SQLite has them take turns.

    Args:
        path: of the SQLite file.
        knob: that places it, for errors.

    """

    def __init__(self, path: Path, knob: str) -> None:
        self.path, self.knob = path, knob
        with blamed(path.parent, knob):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = sqlite3.connect(path, timeout=60)
            self._table.execute("PRAGMA synchronous=OFF")  # a kill loses nothing, a power cut the last lines
            self._table.execute(TABLE)
            self._table.commit()

    def get(self, name: str, stamp: str | None = None) -> dict[str, Any] | None:
        """The line of a photo; with a stamp, if its file is the one that the line was written of."""
        found = self._table.execute("SELECT line, stamp FROM photos WHERE name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found is not None and stamp in (None, found[1]) else None

    def put(self, line: Mapping[str, Any]) -> None:
        """Keep a line with its `name` and `stamp`, instead of an older one."""
        with blamed(self.path, self.knob), self._table:
            self._table.execute(
                "INSERT OR REPLACE INTO photos VALUES (?, ?, ?)", (line["name"], line["stamp"], json.dumps(line))
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every line, by name; one is in memory at a time."""
        for (line,) in self._table.execute("SELECT line FROM photos ORDER BY name"):
            yield json.loads(line)


def to_json(sighting: Sighting) -> dict[str, Any]:
    """A face as a line holds it, single precision to the bit."""
    vectors = {name: base64.b64encode(vector.numpy().tobytes()).decode() for name, vector in sighting.vectors.items()}
    box, points = (part.astype(float).tolist() for part in sighting.found)
    track = None if sighting.track is None else sighting.track.to_json()
    return {"box": box, "points": points, "confidence": sighting.confidence, "vectors": vectors, "track": track}


def from_json(face: Mapping[str, Any]) -> Sighting:
    """What `to_json` wrote."""
    found = Found(np.array(face["box"], np.float32), np.array(face["points"], np.float32))
    vectors = {name: _vector(text) for name, text in face["vectors"].items()}
    return Sighting(found, face["confidence"], vectors, face["track"] and Track.from_json(face["track"]))


def _vector(text: str) -> Float[Tensor, " d"]:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32)
