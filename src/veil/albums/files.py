"""Which files of a user's are photos, and what each is called in the output."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from veil.data.listing import entry_is, hidden
from veil.data.photos import SUFFIXES
from veil.errors import InputError
from veil.storage.text import legible


class Source(NamedTuple):
    """A file."""

    path: Path
    name: str  # below the output, `2024/beach.jpg`; bytes that are no UTF-8 as `\\xe9`


class Sources:
    """The photos below folders, files and patterns, folder by folder in the order of names: one folder is in memory at
    a time. What is hidden, a link in a circle, or of another suffix is left out and counted in `ignored`.

    Args:
        asked: files, folders (with all that is in them) and patterns such as `trip/**/*.jpg`.
        output: is not below any of them.
        suffixes: of what is a photo.

    Raises InputError where nothing is found under a name, two files would have the same name in the output, or the
    output lies in what is read.

    """

    def __init__(self, asked: Sequence[str], output: Path, suffixes: frozenset[str] = frozenset(SUFFIXES)) -> None:
        self.suffixes, self.ignored = suffixes, dict[str, int]()
        self.roots = [root for name in asked for root in _roots(name, len(asked) == 1)]
        if not self.roots:
            raise InputError(f"input must name photos: files, folders or patterns, got {list(asked)}")
        names = [source.name for source in self.roots]
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise InputError(f"input must name files and folders that are called differently, got {repeated}")
        self.place = place = output.resolve()
        for root in self.roots:
            there = root.path.resolve()
            if place == there or there in place.parents or place in there.parents:
                raise InputError(f"output must lie outside of input, which is never written to, got {output}")

    def __iter__(self) -> Iterator[Source]:
        self.ignored.clear()
        for root in self.roots:
            if root.path.is_dir():
                yield from self._walk(root.path, "" if root.name == "." else f"{root.name}/", ())
            elif self._is_photo(root.path.name):
                yield root

    def _walk(self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Source]:
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._ignore(f"folder that cannot be read ({error.strerror})")
            return
        if folder.resolve() == self.place:
            self._ignore("link to the output")
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            self._ignore("link to a folder that is read already")
            return
        for entry in entries:
            if hidden(entry.name):
                self._ignore("hidden or of the system")
            elif entry_is(entry.is_dir):
                yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, here))
            elif not (entry_is(entry.is_file) or entry_is(entry.is_symlink)):
                self._ignore("not a file")
            elif self._is_photo(entry.name):
                yield Source(folder / entry.name, legible(prefix + entry.name))

    def _is_photo(self, name: str) -> bool:
        suffix = Path(name).suffix.lower()
        if suffix not in self.suffixes:
            self._ignore(f"suffix {suffix}" if suffix else "no suffix")
        return suffix in self.suffixes

    def _ignore(self, reason: str) -> None:
        self.ignored[reason] = self.ignored.get(reason, 0) + 1


def _roots(asked: str, alone: bool) -> list[Source]:
    """What a name of `input` stands for. A folder keeps its structure, below its own name if it is not `alone`; a
    pattern's files keep theirs, from where the pattern begins.
    """
    path = Path(asked).expanduser()
    if path.is_dir():
        return [Source(path, "." if alone else path.resolve().name)]
    if path.exists():
        return [Source(path, legible(path.name))]
    if not glob.has_magic(asked):
        raise InputError(f"input: there is no file or folder {asked}")
    start = Path(*_before_magic(path.parts))
    files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True), key=lambda name: (len(name), name))]
    once = {file.resolve(): file for file in reversed(files) if file.is_file()}  # not again through a link in a circle
    if not once:
        raise InputError(f"input: no file matches {asked}")
    return [Source(file, legible(file.relative_to(start).as_posix())) for file in sorted(once.values())]


def _before_magic(parts: Sequence[str]) -> list[str]:
    count = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return list(parts[:count])
