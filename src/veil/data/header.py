"""What a prepared data set says of itself before any photo is read again: `split.json`."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from veil.errors import InputError
from veil.faces.decode import DAMAGED
from veil.storage.fingerprint import stamp

Columns = dict[str, ndarray]
Stamps = dict[str, list[int]]

SEPARATOR = "\0"  # no file name holds it


@dataclass(frozen=True)
class Header:
    """What `split.json` holds.

    Args:
        checksum: of the split, the photos' contents included.
        counts: of people, photos by role, and what was left out.
        sources: what the file system said of each file and folder that was read.
        formats: of the photos' files.
        unlabelled: why there are no labels, where there are none.

    """

    checksum: str
    counts: dict[str, int]
    sources: Stamps
    formats: list[str]
    unlabelled: str

    @property
    def unchanged(self) -> bool:
        """Whether the data set is as it was when it was prepared, as far as the file system tells of its sources."""
        return not self.touched

    @property
    def touched(self) -> list[str]:
        """Files and folders of which the file system says something else now; what they hold may be the same."""
        now = stamps([Path(source) for source in self.sources])
        return [source for source, told in self.sources.items() if now[source] != told]

    def write(self, folder: Path) -> None:
        """Write `split.json`."""
        (folder / "split.json").write_text(json.dumps(asdict(self), indent=1))


def read_header(folder: Path) -> Header:
    """What `Header.write` wrote."""
    return Header(**json.loads((folder / "split.json").read_text()))


def read_keys(folder: Path) -> list[str]:
    """The photos' keys: first those of the gallery, then those of the probes."""
    columns = read_columns(folder)
    return [*unpacked(columns["gallery/key"]), *unpacked(columns["probes/key"])]


def read_columns(folder: Path) -> Columns:
    """What `split.npz` holds. Raises InputError where it is damaged."""
    try:
        with np.load(io.BytesIO((folder / "split.npz").read_bytes())) as file:
            return {name: file[name] for name in file.files}
    except DAMAGED as error:
        raise InputError(f"cache: {folder / 'split.npz'} is damaged ({error}); remove {folder}") from error


def packed(texts: Sequence[str]) -> ndarray:
    """Texts as the bytes of one array."""
    return np.frombuffer(SEPARATOR.join(texts).encode(errors="surrogateescape"), np.uint8)


def unpacked(column: ndarray) -> list[str]:
    """What `packed` was given."""
    return column.tobytes().decode(errors="surrogateescape").split(SEPARATOR) if len(column) else []


def stamps(sources: Sequence[Path]) -> Stamps:
    """What the file system says of each source (`storage.fingerprint.stamp`)."""
    return {str(source.absolute()): stamp(source) for source in sources}
