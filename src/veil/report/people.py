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


def pictures(folder: Path, row: Row, *, originals: bool) -> dict[str, str | None]:
    """Address of each picture by kind; `None` where it must not or cannot be shown.

    A result that equals its original is an original.
    """
    kinds = ["mask", "result", "rebuilt", *(["original"] if originals else [])]
    private = {"result"} if row.get("unchanged") and not originals else set()
    return {kind: None if kind in private else _inline(folder / row[kind]) for kind in kinds if row.get(kind)}


def _inline(path: Path) -> str | None:
    """A small copy as a `data:` address, without metadata."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        small = Image.fromarray(np.array(image.convert("RGB"))).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "jpeg", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
