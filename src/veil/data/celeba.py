"""CelebA, aligned: 202,599 photos of 10,177 people with 40 attributes (Liu et al. 2015, arXiv:1411.7766)."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from veil.config import InputError
from veil.data.photos import Photos, open_archive, read_file, read_member, with_min_photos

PARTITIONS = ("resplit", "official")
PLACES = ("", "Anno", "Eval", "Img")  # as downloaded, or all in one folder
TEST = "2"  # in list_eval_partition.txt


def celeba(root: str, partition: str = "resplit", min_photos: int = 1) -> Photos:
    """The photos that `identity_CelebA.txt` lists, in its order, with the attributes as labels.

    Args:
        root: the folder with `img_align_celeba/` or `img_align_celeba.zip`, `identity_CelebA.txt`,
            `list_attr_celeba.txt` and `list_eval_partition.txt`.
        partition: `resplit` merges train, valid and test, and divides the photos of each person, as the 2022 study did.
            The official partition is by person: nobody in test is in train, so test faces have no enrolled photo to be
            recognised by. `official` therefore probes people of the test partition only, divides their photos as
            `resplit` does, and enrols every photo of train and valid beside them.
        min_photos: leave out people with fewer.

    Raises InputError for a file that is missing or does not fit the others.

    """
    if partition not in PARTITIONS:
        raise InputError(f"data.partition must be one of {PARTITIONS}, got {partition!r}")
    folder = Path(root).expanduser()
    identities = _find(folder, "identity_CelebA.txt")
    attributes = _find(folder, "list_attr_celeba.txt")
    partitions = _find(folder, "list_eval_partition.txt")
    names, people = _two_columns(identities)
    again, parts = _two_columns(partitions)
    if again != names:
        raise _differ(partitions, identities)
    labels = _read_attributes(attributes, names, identities)
    images = _find(folder, "img_align_celeba", "img_align_celeba.zip")
    _check_images(images, names)
    may_probe = np.array(parts) == TEST if partition == "official" else None
    sources = [identities, attributes, partitions, images]
    keys = [name.rpartition(".")[0] for name in names]
    return with_min_photos(Photos(keys, people, _reader(images, names), labels, may_probe, sources), min_photos)


def _find(folder: Path, *names: str) -> Path:
    found = [folder / place / name for name in names for place in PLACES if (folder / place / name).exists()]
    if not found:
        raise InputError(f"data.root: {folder} must hold {' or '.join(names)}, as CelebA's aligned release does")
    return found[0]


def _two_columns(path: Path) -> tuple[list[str], list[str]]:
    """Photos, and what the file says of each."""
    rows = [line.split() for line in path.read_text().splitlines()]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != 2), None)
    if wrong or not rows:
        raise InputError(f"data.root: {path} must have a photo and a number in each line, see line {wrong or 1}")
    names, values = zip(*rows, strict=True)
    return list(names), list(values)


def _read_attributes(path: Path, names: list[str], identities: Path) -> dict[str, Bool[ndarray, " n"]]:
    """`list_attr_celeba.txt`: the number of photos, the attributes' names, then -1 or 1 for each photo."""
    with path.open() as file:
        next(file, None)
        titles = next(file, "").split()
        values = np.zeros((len(titles), len(names)), bool)
        row = -1
        for row, (name, *given) in enumerate(fields for line in file if (fields := line.split())):
            if row >= len(names) or name != names[row]:
                raise _differ(path, identities)
            if len(given) != len(titles) or not set(given) <= {"-1", "1"}:
                raise InputError(
                    f"data.root: {path} must have {len(titles)} times -1 or 1 in each line, see line {row + 3}"
                )
            values[:, row] = [value == "1" for value in given]
    if row + 1 != len(names):
        raise _differ(path, identities)
    return dict(zip(titles, values, strict=True))


def _differ(path: Path, other: Path) -> InputError:
    return InputError(f"data.root: {path.name} and {other.name} must list the same photos in the same order")


def _check_images(images: Path, names: list[str]) -> None:
    """One listing, at preparation only."""
    if images.is_dir():
        there = {entry.name for entry in os.scandir(images)}
    elif zipfile.is_zipfile(images):
        there = {name.rpartition("/")[2] for name in open_archive(images).namelist()}
    else:
        raise InputError(f"data.root: {images} is neither a folder nor a zip")
    missing = [name for name in names if name not in there]
    if missing:
        raise InputError(f"data.root: {images} lacks {len(missing)} of {len(names)} listed photos, {missing[0]} first")


def _reader(images: Path, names: list[str]) -> Callable[[int], bytes]:
    if images.is_dir():
        return lambda number: read_file(images / names[number])
    inside = {name.rpartition("/")[2]: name for name in open_archive(images).namelist()}
    return lambda number: read_member(images, inside[names[number]])
