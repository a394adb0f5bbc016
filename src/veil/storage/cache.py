"""The cache within its limit: the least recently used goes first, and nothing that a running process uses.

An entry is a file with those that are called alike (marks beside a crop), or the files of one network's embeddings.
Whoever uses one says so by `used`, which dates it; whoever began before that date may still need it. `python -m
veil.storage.cache` removes all that nobody uses.
"""

import fcntl
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from veil.config import bytes_of
from veil.errors import InputError
from veil.storage.faults import blamed
from veil.storage.locks import locked
from veil.storage.progress import console

FILES = ("controls", "crops", "features", "scores")  # folders whose files are entries, each by itself
UNITS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}  # bytes
OWN: dict[Path, int] = {}  # the caches that this process uses; open until it ends: the file of each that says so


class Entry(NamedTuple):
    """What is removed at once."""

    paths: Sequence[Path]
    size: int  # bytes
    last_used: float


def join(cache: str) -> None:
    """Say that this process uses the cache from now on, until it ends."""
    folder = Path(cache).expanduser()
    if folder not in OWN:
        users = folder / ".users"
        with blamed(folder):
            users.mkdir(parents=True, exist_ok=True)
            OWN[folder] = os.open(users / _own_name(), os.O_WRONLY | os.O_CREAT, 0o666)
            fcntl.flock(OWN[folder], fcntl.LOCK_EX)


def _own_name() -> str:
    return f"{platform.node()}-{os.getpid()}"


def used(path: Path) -> bool:
    """Whether an entry is there; if so, it is used now."""
    with suppress(OSError):  # of a cache that may only be read, which nobody tidies
        os.utime(path)
    return path.exists()


def tidy(cache: str, limit: str | None) -> None:
    """After a run that used the cache: remove entries until no more than `limit` is there, and say so, or why not."""
    folder = Path(cache).expanduser()
    if limit is not None and folder in OWN:
        most = bytes_of(limit)
        try:
            removed, left = remove(folder, most)
        except (InputError, OSError) as error:  # the run is done all the same
            console.print(f"Cache: not brought within cache_limit={limit}: {error}", markup=False, soft_wrap=True)
            return
        if removed:
            console.print(f"Cache: {shown(removed)} least recently used removed, {shown(left)} left in {folder}")
        if left > most:
            console.print(f"Cache: {shown(left)} are in use in {folder}, more than cache_limit={limit}")


def remove(folder: Path, most: int) -> tuple[int, int]:
    """Remove entries that no process uses, least recently used first, until `most` bytes are there; give how many
    bytes went, and how many stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".locks" / "tidy"):
        since = _since(folder)
        entries = sorted(_entries(folder), key=lambda entry: entry.last_used)
        total, removed = sum(entry.size for entry in entries), 0
        for entry in entries:
            if total - removed <= most or entry.last_used >= since:
                break
            if _entry(entry.paths) == entry:  # not used meanwhile
                for path in entry.paths:
                    path.unlink(missing_ok=True)
                removed += entry.size
    return removed, total - removed


def shown(size: int) -> str:
    """E.g. `1.5 GB`."""
    unit = next((name for name in UNITS if size >= UNITS[name]), "KB")
    return f"{size / UNITS[unit]:.1f} {unit}"


def _since(folder: Path) -> float:
    """When the longest running process began that uses the cache; what dead ones left is removed."""
    began = [float("inf")]
    for path in (folder / ".users").glob("*"):
        if folder in OWN and path.name == _own_name():
            began.append(path.stat().st_mtime)
            continue
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                began.append(path.stat().st_mtime)
    return min(began)


def _entries(folder: Path) -> Iterator[Entry]:
    for name in FILES:
        for paths in _called_alike(folder / name).values():
            entry = _entry(paths)
            if entry.size:  # a mark alone says that a photo has no face
                yield entry
    for path in (folder / "embeddings").glob("*"):
        files = sorted(path.glob("[!.]*"))  # names first: vectors without a name are overwritten
        if files:
            yield _entry(files)


def _called_alike(folder: Path) -> dict[Path, list[Path]]:
    """Files by their path without suffix: marks go with their crop, and so do the crops of a photo's further faces."""
    found: dict[Path, list[Path]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):  # those are being written
            found.setdefault(path.with_suffix(""), []).append(path)
    for main in list(found):
        further = main.with_suffix(".others")
        if further in found.get(main, ()):
            for name in further.read_text().split():
                found[main] += found.pop(folder / name[:2] / name, [])
    return found


def _entry(paths: Sequence[Path]) -> Entry:
    stats = [path.stat() for path in paths if path.exists()]
    return Entry(paths, sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0))


def main() -> None:
    """Remove from the cache what no running process uses."""
    folder = Path(os.environ.get("VEIL_CACHE") or "~/.cache/veil").expanduser()
    removed, left = remove(folder, 0)
    console.print(f"{shown(removed)} removed from {folder}; {shown(left)} are in use")


if __name__ == "__main__":
    main()
