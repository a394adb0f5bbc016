"""What lies below a folder or in a zip: the photos, and what is left out with the reason."""

import os
import re
import zipfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from veil.data.photos import open_archive
from veil.storage.text import legible

# Folders of systems, in lower case; what begins with a dot is hidden anyway
SYSTEM = frozenset(
    {"@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb"}  # Synology, QNAP
    | {"$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}  # Windows
    | {"__macosx", "lost+found", "__pycache__"}
)
HIDDEN = "hidden or of the system"
LOOSE = "in no person's folder"
READ_ALREADY = "link to a folder that is read already"
CLOSED = "folder that may not be read"
BROKEN = "link to nothing"
EMPTY = "folder without a photo"

Ignored = dict[str, list[str]]  # reason -> names of files and folders


class Listing(NamedTuple):
    """What lies below a folder or in a zip."""

    names: list[str]  # of photos, `<folder>/<photo>`, in natural order
    folders: list[Path]  # that were read, empty ones too: photos may come into them
    ignored: Ignored


def listing(root: Path, suffixes: Collection[str]) -> Listing:
    """The photos of a folder or a zip.

    Hidden and system folders are not entered. Links are followed; a folder that is met again is left out, so that no
    circle is walked and no photo is read twice.
    """
    files, folders, ignored = _members(root) if zipfile.is_zipfile(root) else _walked(root)
    names = []
    for name in files:
        suffix = Path(name).suffix.lower()
        if suffix not in suffixes:
            _note(ignored, f"suffix {suffix}" if suffix else "no suffix", name)
        elif "/" not in name:
            _note(ignored, LOOSE, name)
        else:
            names.append(name)
    filled = {folder for name in names for folder in _above(name)}
    for folder in folders:
        place = folder.relative_to(root).as_posix()
        if place != "." and place not in filled:
            _note(ignored, EMPTY, place)
    return Listing(sorted(names, key=_natural), folders, ignored)


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or is no user's own."""
    return name.startswith(".") or name.lower() in SYSTEM


def merged(parts: Mapping[str, Mapping[str, Sequence[str]]]) -> Ignored:
    """What several data sets leave out, each name after that of its data set."""
    total: Ignored = {}
    for part, ignored in parts.items():
        for reason, names in ignored.items():
            total.setdefault(reason, []).extend(f"{part}/{name}" for name in names)
    return total


def _members(path: Path) -> tuple[list[str], list[Path], Ignored]:
    files, ignored = list[str](), Ignored()
    unseen = set[str]()
    for name in open_archive(path).namelist():
        parts = name.split("/")
        depth = next((depth for depth, part in enumerate(parts) if part and hidden(part)), None)
        if depth is not None:
            unseen.add("/".join(parts[: depth + 1]))
        elif parts[-1]:
            files.append(name)
    for name in sorted(unseen):
        _note(ignored, HIDDEN, name)
    return files, [], ignored


def _walked(root: Path) -> tuple[list[str], list[Path], Ignored]:
    files, folders, ignored = list[str](), list[Path](), Ignored()
    met = set[tuple[int, int]]()  # device and inode
    places, links = deque([""]), deque[str]()  # links last: what they lead to keeps its own name where it has one
    while places or links:
        place = places.popleft() if places else links.popleft()
        folder = root / place
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            _note(ignored, CLOSED, place)
            continue
        if (status.st_dev, status.st_ino) in met:
            _note(ignored, READ_ALREADY, place)
            continue
        met.add((status.st_dev, status.st_ino))
        folders.append(folder)
        for entry in entries:
            name = f"{place}/{entry.name}" if place else entry.name
            if hidden(entry.name):
                _note(ignored, HIDDEN, name)
            elif entry_is(entry.is_dir):
                (links if entry.is_symlink() else places).append(name)
            elif entry_is(entry.is_file):
                files.append(name)
            else:
                _note(ignored, BROKEN if entry.is_symlink() else "not a file", name)
    return files, sorted(folders), ignored


def entry_is(kind: Callable[[], bool]) -> bool:
    """What the system says of an entry; a link to itself is nothing."""
    try:
        return kind()
    except OSError:
        return False


def _above(name: str) -> Iterable[str]:
    """The folders of a photo."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _note(ignored: Ignored, reason: str, name: str) -> None:
    ignored.setdefault(legible(reason), []).append(legible(name))


def _natural(name: str) -> list[tuple[int, str]]:
    """`s2/10` after `s2/9`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
