"""VGGFace2: 3.3 million photos of 9,131 people (Cao et al. 2018, arXiv:1710.08092)."""

import csv
import os
from pathlib import Path

import numpy as np

from veil.data.photos import SUFFIXES, Photos, read_file, with_min_photos
from veil.errors import InputError

PARTS = ("train", "test")  # by person


def vggface2(root: str, part: str | None = None, min_photos: int = 2) -> Photos:
    """The photos of `<root>/<part>/n000001/0001_01.jpg`; keys are `n000001/0001_01`.

    Where `identity_meta.csv` lies in `root`, its gender is the label `gender`: `m` or `f`.

    Args:
        root: the folder that holds `train/`, `test/` or both.
        part: one of them; null is whatever is there. The official parts share no person.
        min_photos: leave out people with fewer.

    Raises InputError where nothing is there.

    """
    folder = Path(root).expanduser()
    if part is not None and part not in PARTS:
        raise InputError(f"data.part must be null or one of {PARTS}, got {part!r}")
    parts = [folder / name for name in PARTS if part in (None, name) and (folder / name).is_dir()]
    there = (Path(entry.path) for place in parts for entry in os.scandir(place) if entry.is_dir())
    persons = sorted(there, key=lambda person: person.name)
    names = [sorted(entry.name for entry in os.scandir(person) if _is_photo(entry)) for person in persons]
    place = np.repeat(np.arange(len(persons)), [len(photos) for photos in names])
    if not len(place):
        wanted = part or " or ".join(PARTS)
        raise InputError(f"data.root={root!r} holds no photo of VGGFace2: expected {wanted}/n000001/0001_01.jpg")
    files = [name for photos in names for name in photos]
    people = [persons[index].name for index in place.tolist()]
    keys = [f"{person}/{name.rpartition('.')[0]}" for person, name in zip(people, files, strict=True)]
    meta = folder / "identity_meta.csv"
    labels = {"gender": _genders(meta, people)} if meta.exists() else {}
    sources = [*parts, *persons, *([meta] if labels else [])]
    photos = Photos(
        keys, people, lambda number: read_file(persons[place[number]] / files[number]), labels, None, sources
    )
    return with_min_photos(photos, min_photos)


def _is_photo(entry: os.DirEntry) -> bool:
    return Path(entry.name).suffix.lower() in SUFFIXES and not entry.name.startswith(".")


def _genders(path: Path, people: list[str]) -> np.ndarray:
    """The columns Class_ID and Gender; fields are separated by a comma and a space."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    try:
        gender = {row["Class_ID"]: row["Gender"] for row in rows}
        return np.array([gender[person] for person in people])
    except KeyError as error:
        raise InputError(f"data.root: {path} must give the Class_ID and Gender of everybody, lacks {error}") from error
