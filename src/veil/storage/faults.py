"""What a file system says against writing, as one error that names the knob."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veil.errors import InputError

NO_LOCKS = frozenset((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS))  # network file systems
# Of the place: another folder mends them. Others are of the machine or of this code, and stay what they are.
OF_THE_PLACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM))
OF_THE_PLACE |= frozenset((errno.ENOTDIR, errno.EEXIST, errno.EISDIR))
KNOBS = {"cache": "cache= (or the variable VEIL_CACHE)"}


@contextmanager
def blamed(place: Path, knob: str = "cache") -> Iterator[None]:
    """Raise InputError that names the knob where `place` is full, read-only, no folder, or cannot lock files."""
    try:
        yield
    except sqlite3.DatabaseError as error:  # has no errno
        raise InputError(_message(place, knob, str(error))) from error
    except OSError as error:
        if error.errno not in OF_THE_PLACE | NO_LOCKS:
            raise
        reason = f"{error.strerror}: its file system locks no files" if error.errno in NO_LOCKS else error.strerror
        raise InputError(_message(place, knob, str(reason))) from error


def _message(place: Path, knob: str, reason: str) -> str:
    remedy = f"make room there, or set {KNOBS.get(knob, f'{knob}=')} to a folder of a local disk that can be written"
    return f"{knob}: {place} cannot be written ({reason}); {remedy}"
