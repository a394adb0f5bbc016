"""Ctrl-C and SIGTERM: a run ends once its batch is kept; asked again, at once."""

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The user, or a scheduler, asked to stop. No Exception: Hydra would take it for a run's failure, and go on."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum  # as shells have it: 130 for Ctrl-C, 143 for SIGTERM


class _State:
    owner = 0  # process that watches
    in_run = False
    asked = 0  # signal


def watch() -> None:
    """Raise Stopped in this process on Ctrl-C and SIGTERM: at once, or where a run goes, at the end of its batch."""
    _State.owner = os.getpid()
    for number in SIGNALS:
        signal.signal(number, _stop)


def unwatch() -> None:
    """Let Ctrl-C and SIGTERM end this process at once."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def watched() -> bool:
    """Whether this process watches."""
    return _State.owner == os.getpid()


def run_begins() -> None:
    """From now on there are batches, whose ends are waited for."""
    _State.in_run = True


def run_ended() -> None:
    """There are no more. Raises Stopped where this was asked meanwhile."""
    _State.in_run = False
    stop_if_asked()


def stop_if_asked() -> None:
    """What is done is kept: raises Stopped where this was asked since the last call."""
    if _State.asked and threading.current_thread() is threading.main_thread():
        raise Stopped(_State.asked)


def _stop(number: int, _: FrameType | None) -> None:
    if os.getpid() != _State.owner:  # a helper of this process, forked; Ctrl-C reaches it too, and its owner ends it
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    if _State.asked or not _State.in_run:
        raise Stopped(number)
    _State.asked = number
    os.write(2, b"\nStopping when this batch is kept; once more: at once.\n")  # `print` may be what was interrupted
