"""Photos before anything is read: what each is called, who is on it, and where its bytes are."""

import functools
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from veil.errors import InputError
from veil.faces.decode import MAX_BYTES, Photo
from veil.storage.text import legible, same_name

SUFFIXES = {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"}
SUFFIXES |= {".avif", ".heic", ".heif", ".hif", ".webp"}
UNLABELLED = "the data has no labels"

Labels = Mapping[str, ndarray]  # name -> one value a photo: bool, integer or text
Ignored = Mapping[str, Sequence[str]]  # reason -> names of what is left out


class Photos(Sequence[Photo]):
    r"""A data set in columns, so that 200,000 photos are a few arrays.

    Args:
        keys: unique names; bytes in them that are no UTF-8 become `\xe9`.
        people: who is on each photo; in Unicode's composed form, so that what reads alike is one person.
        read: number of a photo -> its bytes.
        labels: what else is known of each photo.
        may_probe: where the data set's own partition rules it: photos that may be probes; `None` is all.
        sources: files and folders whose size and time of change tell that the data set is still the same.
        unlabelled: why there are no labels; said where labels are asked for.
        ignored: files, folders and people that are left out, by the reason.

    """

    def __init__(
        self,
        keys: Sequence[str],
        people: Sequence[str],
        read: Callable[[int], bytes],
        labels: Labels | None = None,
        may_probe: Bool[ndarray, " n"] | None = None,
        sources: Sequence[Path] = (),
        unlabelled: str = UNLABELLED,
        ignored: Ignored | None = None,
    ) -> None:
        self.keys, self.people = [legible(key) for key in keys], [same_name(name) for name in people]
        self.read = read
        self.labels, self.may_probe, self.sources = dict(labels or {}), may_probe, list(sources)
        self.unlabelled, self.ignored = unlabelled, dict(ignored or {})

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Photo: ...

    @overload
    def __getitem__(self, index: slice) -> "Photos": ...

    def __getitem__(self, index: int | slice) -> "Photo | Photos":
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        number = range(len(self))[index]
        return Photo(self.keys[number], self.people[number], functools.partial(self.read, number))

    def select(self, numbers: ndarray) -> "Photos":
        """The photos of these numbers."""
        chosen = numbers.tolist()
        return Photos(
            [self.keys[number] for number in chosen],
            [self.people[number] for number in chosen],
            lambda index: self.read(chosen[index]),
            {name: values[numbers] for name, values in self.labels.items()},
            None if self.may_probe is None else self.may_probe[numbers],
            self.sources,
            self.unlabelled,
            self.ignored,
        )


def with_min_photos(photos: Photos, min_photos: int) -> Photos:
    """Without the people who have fewer than `min_photos` photos, who are noted among what is ignored.

    Raises InputError when nobody is left.
    """
    if min_photos < 1:
        raise InputError(f"data.min_photos is the fewest photos of a person, at least 1, got {min_photos}")
    people, person, counts = np.unique(np.array(photos.people), return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts[person] >= min_photos)
    if not len(kept):
        raise InputError(
            f"data.min_photos={min_photos} leaves nobody: the most photos of one person are {counts.max()}"
        )
    if len(kept) == len(photos):
        return photos
    some = photos.select(kept)
    some.ignored[f"person with fewer than {min_photos} photos"] = people[counts < min_photos].tolist()
    return some


def open_archive(path: Path, knob: str = "data.root") -> zipfile.ZipFile:
    """The zip at `path`, the same object for every call in a process.

    A process that was forked opens its own, so that workers do not move each other's place in the file. Raises
    InputError when it is damaged.
    """
    try:
        return _archive(str(path), os.getpid())
    except zipfile.BadZipFile as error:
        raise InputError(f"{knob}: {path} is a damaged zip ({error})") from error


@functools.lru_cache(maxsize=4)
def _archive(path: str, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def read_member(path: Path, name: str) -> bytes:
    """A file of a zip, read in place, `MAX_BYTES` and one byte at most."""
    with open_archive(path).open(name) as file:
        return file.read(MAX_BYTES + 1)


def read_file(path: Path) -> bytes:
    """A file, `MAX_BYTES` and one byte at most."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
