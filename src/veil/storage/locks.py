"""One process at a time."""

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from veil.storage.faults import blamed
from veil.storage.stopping import stop_if_asked

LONGEST = 0.2  # seconds between two tries


@contextmanager
def locked(path: Path, on_wait: Callable[[str], None] = lambda owner: None, knob: str = "cache") -> Iterator[None]:
    """Be the only process inside with the same `path`; wait where another one is.

    The owner is written in the file. The system frees its lock when it ends, however it ends: a dead owner's lock is
    taken over. Raises InputError where the file cannot be written or locked.

    Args:
        path: of a file, which is made.
        on_wait: told once who is inside, before the wait; may raise.
        knob: that places the file, for the error.

    """
    with ExitStack() as held:
        with blamed(path.parent, knob):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(path.open("a+"))
            taken = _taken(lock)
        if not taken:
            lock.seek(0)
            on_wait(lock.read() or "another process")
            pause = LONGEST / 100
            while not _taken(lock):
                stop_if_asked()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        lock.flush()
        yield


def _taken(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
