"""One process at a time."""

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from veil.storage.stopping import stop_if_asked

LONGEST = 0.2  # seconds between two tries


@contextmanager
def locked(path: Path, on_wait: Callable[[str], None] = lambda owner: None) -> Iterator[None]:
    """Be the only process inside with the same `path`; wait where another one is.

    The owner is written in the file. The system frees its lock when it ends, however it ends: a dead owner's lock is
    taken over.

    Args:
        on_wait: told once who is inside, before the wait; may raise.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        if not _taken(lock):
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
