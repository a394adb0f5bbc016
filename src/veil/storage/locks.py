"""One writer at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from veil.storage.faults import blamed


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same `path`, a file of the cache; the lock ends with the process
    that holds it. Raises InputError where the cache cannot be written or locked.
    """
    with ExitStack() as held:
        with blamed(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
