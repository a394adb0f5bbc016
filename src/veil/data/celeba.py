"""CelebA, aligned: 202,599 photos of 10,177 people with 40 attributes (Liu et al. 2015, arXiv:1411.7766)."""

import csv
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from veil.data.photos import Photos, open_archive, read_file, read_member, with_min_photos
from veil.errors import InputError
from veil.storage.text import text_of

PARTITIONS = ("resplit", "official")
PLACES = ("", "Anno", "Eval", "Img")  # as downloaded, or all in one folder
IMAGES, IDENTITY = "img_align_celeba", "identity_CelebA"
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
SUFFIXES = {IDENTITY: [".txt"], ATTRIBUTES: [".txt", ".csv"], PARTITION: [".txt", ".csv"]}  # .csv is Kaggle's
PARTS, TEST = {"0", "1", "2"}, "2"  # of the official partition: train, valid, test


class Table(NamedTuple):
    """One of the lists of the release."""

    path: Path  # for messages; within a zip it goes on after the zip's own path
    content: bytes


def celeba(root: str, partition: str = "resplit", min_photos: int = 1) -> Photos:
    """The photos that `identity_CelebA.txt` lists, in its order, with the attributes as labels.

    Person 1164 of the list is called `celeba_1164`, so that nobody's own folder `1164` is taken for the same person.

    Args:
        root: a folder or a zip, which is read in place, with `img_align_celeba/`, `identity_CelebA.txt`,
            `list_attr_celeba.txt` and `list_eval_partition.txt`: in one folder or in the `Img`, `Anno` and `Eval` of
            the official release, or one folder further down; at any depth of a zip. In a folder the photos may stay in
            `img_align_celeba.zip`. A list that a zip lacks may lie beside it. Kaggle's release
            (jessicali9530/celeba-dataset) has `.csv` lists and lacks `identity_CelebA.txt`, which must be added.
            Without the attributes there are no labels. The lists may name more photos than `identity_CelebA.txt`.
        partition: `resplit` merges train, valid and test, and divides the photos of each person, as the 2022 study did.
            The official partition is by person: nobody in test is in train, so test faces have no enrolled photo to be
            recognised by. `official` therefore probes people of the test partition only, divides their photos as
            `resplit` does, and enrols every photo of train and valid beside them; it needs `list_eval_partition`.
        min_photos: leave out people with fewer.

    Raises InputError for what is missing, is there twice, or does not fit the others.

    """
    if partition not in PARTITIONS:
        raise InputError(f"data.partition must be one of {PARTITIONS}, got {partition!r}")
    place = Path(root).expanduser()
    if not place.is_dir() and not zipfile.is_zipfile(place):
        raise InputError(f"data.root must be a folder or a zip, got {root!r}")
    tables, sources = _tables(place)
    if IDENTITY not in tables:
        raise InputError(
            f"data.root: {place} must hold {IDENTITY}.txt (who is on each photo), as CelebA's official release does; "
            f"Kaggle's release lacks it: put the official one beside the other lists{_or_beside(place)}"
        )
    if partition == "official" and PARTITION not in tables:
        raise InputError(f"data.partition=official needs {PARTITION}.txt or .csv in {place}")
    names, people = _identities(tables[IDENTITY])
    parts = _parts(tables[PARTITION], names) if PARTITION in tables else []
    labels = _attributes(tables[ATTRIBUTES], names) if ATTRIBUTES in tables else {}
    images = _images(place)
    photos = Photos(
        [name.rpartition(".")[0] for name in names],
        people,
        _reader(images, _located(images, names)),
        labels,
        np.array(parts) == TEST if partition == "official" else None,
        [images, *sources],
        f"{ATTRIBUTES} is not there",
    )
    return with_min_photos(photos, min_photos)


def _or_beside(place: Path) -> str:
    return "" if place.is_dir() else f", or beside {place.name}"


def _folders(root: Path) -> list[Path]:
    """Where lists and photos may lie, whether or not these folders exist."""
    # folders that may not be entered, such as lost+found, are passed over
    open_ones = (entry for entry in os.scandir(root) if entry.is_dir() and os.access(entry, os.X_OK))
    inner = sorted(entry.name for entry in open_ones if entry.name != IMAGES)
    return list(dict.fromkeys(root / name / place for name in ("", *inner) for place in PLACES))


def _tables(root: Path) -> tuple[dict[str, Table], list[Path]]:
    """The lists that are there, by stem; and the files by which a change is noticed: lists that may yet come too."""
    folders, members = (_folders(root), []) if root.is_dir() else ([root.parent], open_archive(root).namelist())
    tables, sources = {}, []
    for stem, suffixes in SUFFIXES.items():
        names = {f"{stem}{suffix}" for suffix in suffixes}
        inside = [member for member in members if member.rpartition("/")[2] in names]
        outside = [] if inside else [folder / name for folder in folders for name in sorted(names)]
        files = [path for path in outside if path.is_file()]
        _refuse_two(root, stem, [*inside, *(path.relative_to(folders[0]).as_posix() for path in files)])
        if inside:
            tables[stem] = Table(root / inside[0], read_member(root, inside[0]))
        elif files:
            tables[stem] = Table(files[0], read_file(files[0]))
        sources += files or outside
    return tables, sources


def _refuse_two(root: Path, what: str, found: Sequence[str]) -> None:
    if len(found) > 1:
        raise InputError(f"data.root: {root} holds {what} twice: {', '.join(found[:2])}; keep one")


def _rows(table: Table) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that is not empty, with the line's number."""
    lines = text_of(table.content, f"data.root: {table.path}").splitlines()
    split: Iterable[list[str]] = csv.reader(lines) if table.path.suffix == ".csv" else map(str.split, lines)
    return ((number, fields) for number, fields in enumerate(split, 1) if fields)


def _two_columns(
    table: Table, rows: Iterable[tuple[int, list[str]]], fits: Callable[[str], bool], what: str
) -> Iterator[tuple[str, str]]:
    """Photos, and what the list says of each."""
    for number, row in rows:
        if len(row) != 2 or not fits(row[1]):
            raise InputError(f"data.root: {table.path} must have a photo and {what} in each line, see line {number}")
        yield row[0], row[1]


def _identities(table: Table) -> tuple[list[str], list[str]]:
    """The photos and who is on each."""
    people: dict[str, str] = {}
    for name, person in _two_columns(table, _rows(table), str.isdecimal, "a number"):
        if name in people:
            raise InputError(f"data.root: {table.path} lists {name} twice")
        people[name] = f"celeba_{person}"
    if not people:
        raise InputError(f"data.root: {table.path} is empty")
    return list(people), list(people.values())


def _parts(table: Table, names: Sequence[str]) -> list[str]:
    """The official part of each photo: 0, 1 or 2."""
    rows = _rows(table)
    if table.path.suffix == ".csv":
        _, header = next(rows, (1, []))
        if header != ["image_id", "partition"]:
            raise InputError(
                f"data.root: {table.path} must have the columns image_id and partition, got {', '.join(header)}"
            )
    listed = set(names)
    pairs = _two_columns(table, rows, PARTS.__contains__, "0, 1 or 2")
    found = [(name, part) for name, part in pairs if name in listed]
    if [name for name, _ in found] != list(names):
        raise _differ(table)
    return [part for _, part in found]


def _attributes(table: Table, names: Sequence[str]) -> dict[str, Bool[ndarray, " n"]]:
    """The names of the attributes, then -1 or 1 for each photo. The `.txt` begins with the number of photos."""
    rows = _rows(table)
    _, first = next(rows, (1, []))
    if table.path.suffix == ".csv":
        if first[:1] != ["image_id"] or len(first) < 2:
            raise InputError(
                f"data.root: {table.path} must have the column image_id first and then the attributes, "
                f"got {', '.join(first)}"
            )
        titles = first[1:]
    else:
        _, titles = next(rows, (2, []))
    values = np.zeros((len(titles), len(names)), bool)
    listed, count = set(names), 0
    for number, (name, *given) in rows:
        if name not in listed:
            continue
        if count == len(names) or name != names[count]:
            raise _differ(table)
        if len(given) != len(titles) or not set(given) <= {"-1", "1"}:
            raise InputError(
                f"data.root: {table.path} must have a photo and {len(titles)} times -1 or 1 in each line, "
                f"see line {number}"
            )
        values[:, count] = [value == "1" for value in given]
        count += 1
    if count != len(names):
        raise _differ(table)
    return dict(zip(titles, values, strict=True))


def _differ(table: Table) -> InputError:
    return InputError(f"data.root: {table.path.name} and {IDENTITY}.txt must list the same photos in the same order")


def _images(root: Path) -> Path:
    """The folder or the zip with the photos; where both are there, the folder. Kaggle's folder is nested in itself."""
    if root.is_file():
        return root
    places = [folder / IMAGES for folder in _folders(root)]
    zips = [folder.with_suffix(".zip") for folder in places]
    found = [folder for folder in places if folder.is_dir()] or [path for path in zips if path.is_file()]
    if not found:
        raise InputError(f"data.root: {root} must hold {IMAGES}/ or {IMAGES}.zip, as CelebA's aligned release does")
    _refuse_two(root, IMAGES, [path.relative_to(root).as_posix() for path in found])
    images = found[0]
    if images.is_file() and not zipfile.is_zipfile(images):
        raise InputError(f"data.root: {images} is neither a folder nor a zip")
    return images / IMAGES if (images / IMAGES).is_dir() else images


def _located(images: Path, names: Sequence[str]) -> list[str]:
    """The path of each listed photo within the folder or the zip. One listing, at preparation only."""
    if images.is_dir():
        paths = [entry.name for entry in os.scandir(images)]
    else:
        everything = open_archive(images).namelist()
        paths = [path for path in everything if path.split("/")[-2:-1] == [IMAGES]] or everything
    listed, places = set(names), dict[str, str]()
    for path in paths:
        name = path.rpartition("/")[2]
        if name in listed:
            _refuse_two(images, name, [places[name], path] if name in places else [])
            places[name] = path
    missing = [name for name in names if name not in places]
    if missing:
        raise InputError(
            f"data.root: {images} lacks {len(missing)} of {len(names)} listed photos, {missing[0]} first; "
            f"{IDENTITY}.txt may be cut down to those that are there"
        )
    return [places[name] for name in names]


def _reader(images: Path, paths: Sequence[str]) -> Callable[[int], bytes]:
    if images.is_dir():
        return lambda number: read_file(images / paths[number])
    return lambda number: read_member(images, paths[number])
