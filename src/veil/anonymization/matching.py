"""Which of another tool's pictures is of which photo."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from veil.data.photos import SUFFIXES
from veil.errors import InputError
from veil.storage.text import legible, table_of


class Matches(NamedTuple):
    """Which picture is of which photo."""

    pictures: dict[str, Path]  # by the photo's key
    unmatched: list[str]  # files that are of no photo of the data set


def match(source: Path, keys: Sequence[str]) -> Matches:
    """The pictures of a folder, by the photos' keys.

    A picture is of the photo whose key is its path in the folder, or the end of that path, without the suffix. Or
    `source` is a CSV with the columns `key` and `path`, from the file's folder.

    Raises InputError where `source` is neither, or no picture is of a photo.
    """
    if source.is_file() and source.suffix.lower() == ".csv":
        listed = _listed(source)
        known = set(keys)
        pictures = {key: path for key, path in listed.items() if key in known and path.is_file()}
        unmatched = [str(path) for key, path in listed.items() if key not in pictures]
    elif source.is_dir():
        pictures, unmatched = _by_path(source, set(keys))
    else:
        raise InputError(f"anonymized must be a folder of pictures, or a .csv with key and path, got {str(source)!r}")
    if not pictures:
        raise InputError(
            f"anonymized: none of {len(unmatched)} pictures in {source} is of a photo of the data; a picture is called "
            f"as its photo, for example {keys[0]}.png, or a .csv says which it is"
        )
    return Matches(pictures, unmatched)


def _listed(source: Path) -> dict[str, Path]:
    """Pictures by key, as a CSV lists them. Raises InputError for a missing column, or a key that comes twice."""
    _, rows, lines = table_of(source.read_bytes(), f"anonymized: {source}", ("key", "path"))
    for row, line in zip(rows, lines, strict=True):
        if not row["key"] or not row["path"]:
            raise InputError(f"anonymized: {source} needs a key and a path in every line, see line {line}")
    repeated = [key for key, count in Counter(row["key"] for row in rows).items() if count > 1]
    if repeated:
        raise InputError(f"anonymized: several pictures are of {repeated[0]!r} in {source}")
    return {row["key"]: source.parent / row["path"] for row in rows}


def _by_path(source: Path, keys: set[str]) -> tuple[dict[str, Path], list[str]]:
    found: dict[str, list[Path]] = {}
    unmatched = []
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        parts = path.relative_to(source).with_suffix("").parts
        ends = (legible("/".join(parts[start:])) for start in range(len(parts)))
        key = next((end for end in ends if end in keys), None)
        if key is None:
            unmatched.append(legible(path.relative_to(source).as_posix()))
        else:
            found.setdefault(key, []).append(path)
    for key, paths in found.items():
        if len(paths) > 1:
            raise InputError(f"anonymized: several pictures are of {key!r}: {', '.join(map(str, paths[:3]))}")
    return {key: path for key, (path,) in found.items()}, unmatched
