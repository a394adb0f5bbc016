"""Who is protected worst and best, and their pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SHOWN = 4  # people at each end
SIDE = 160  # px of a picture on the page

Row = Mapping[str, Any]  # of manifest.csv


class Columns(NamedTuple):
    """Columns of the manifest, over all judges and attacks that count."""

    rank1: Sequence[str]
    cosine: Sequence[str]


class Person(NamedTuple):
    """How well one person is protected. They are called by their number: a name is nobody's business here."""

    label: int
    named: float  # share of attacks, over their photos, that name them first
    attacks: int
    cosine: float | None  # mean, between before and after; None where no judge gives it
    exposed: Row  # the photo that gives most away


def ranked(rows: Sequence[Row], columns: Columns) -> list[Person]:
    """People from the worst protected to the best: by how often they are named, then by cosine.

    Empty where no photo has a rank-1.
    """
    everyone: dict[int, list[Row]] = {}
    for row in rows:
        if _values(row, columns.rank1):
            everyone.setdefault(row["label"], []).append(row)
    people = [_person(label, photos, columns) for label, photos in everyone.items()]
    return sorted(people, key=lambda person: (-person.named, -(person.cosine or 0)))


def _person(label: int, rows: Sequence[Row], columns: Columns) -> Person:
    named = [value for row in rows for value in _values(row, columns.rank1)]
    cosines = [value for row in rows for value in _values(row, columns.cosine)]
    exposed = max(rows, key=lambda row: (sum(_values(row, columns.rank1)), sum(_values(row, columns.cosine))))
    return Person(label, float(np.mean(named)), len(named), float(np.mean(cosines)) if cosines else None, exposed)


def _values(row: Row, columns: Sequence[str]) -> list[float]:
    """What was measured of one photo; what it does not have is left out."""
    return [row[column] for column in columns if row.get(column) is not None]


def extremes(people: Sequence[Person]) -> tuple[Sequence[Person], Sequence[Person]]:
    """The worst protected, worst first, and the best protected, best first; nobody is in both."""
    worst = people[:SHOWN]
    return worst, people[len(worst) :][-SHOWN:][::-1]


def shows_original(row: Row) -> bool:
    """Whether a result equals its original, or nearly, as far as the manifest tells: a PSNR of 40 dB in the view, or of
    30 dB in the mask or of a result without one. What has no PSNR is equal; where none was measured, nobody knows.
    A page over 1,000 runs has not the time to read pixels (`veil.faces.pictures.shows`).
    """
    whole, masked = "utility/psnr", "utility/psnr_masked"
    if row.get("unchanged") or whole not in row:
        return True
    limits = {whole: 40 if row.get("mask") else 30} | ({masked: 30} if masked in row and row.get("mask") else {})
    return any(row[name] is None or row[name] >= limit for name, limit in limits.items())


def pictures(folder: Path, row: Row, *, originals: bool) -> dict[str, str | None]:
    """Address of each picture by kind; `None` where it must not or cannot be shown."""
    kinds = ["mask", "result", "rebuilt", *(["original"] if originals else [])]
    private = {"result"} if shows_original(row) and not originals else set()
    return {kind: None if kind in private else _inline(folder / row[kind]) for kind in kinds if row.get(kind)}


def strip(folder: Path, files: Sequence[str | None], side: int = SIDE) -> str:
    """Small copies side by side as one `data:` address, without metadata; grey where there is no file."""
    row = Image.new("RGB", (side * len(files), side), "grey")
    for place, file in enumerate(files):
        if file and (folder / file).exists():
            row.paste(_small(folder / file, side), (place * side, 0))
    buffer = io.BytesIO()
    row.save(buffer, "jpeg", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _inline(path: Path) -> str | None:
    """A small copy as a `data:` address, without metadata."""
    return strip(path.parent, [path.name]) if path.exists() else None


def _small(path: Path, side: int) -> Image.Image:
    with Image.open(path) as image:
        plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
        return plain.resize((side, side), Image.Resampling.BOX)
