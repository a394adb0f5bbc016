"""One run on several devices: a process for each has its share of the faces, and this process keeps what they find.

The shares are whole batches, the same as one device would have, and nothing passes between devices: results do not
depend on their number. Processes are started anew, not forked, and not by the user's script, which may be unguarded.
"""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

import torch

from veil.config import Config
from veil.data.faces import FaceSet
from veil.errors import InputError
from veil.storage.folders import Row
from veil.storage.progress import Stages, console
from veil.storage.stopping import SIGNALS, Stopped

LOOK = 0.5  # seconds between two looks at whether to stop
STOP = "stop"
START = "import sys; from veil.tasks.devices import serve; serve(int(sys.argv[1]))"

Take = Callable[[list[Row]], None]  # rows of a batch whose files are written
Work = Callable[[Config, FaceSet, Take], dict[str, float]]  # gives the seconds of its stages


def alone(config: Config) -> Config:
    """The config of the same run on the first device alone."""
    return replace(config, trainer=config.trainer | {"devices": 1})


def share(faces: FaceSet, batch_size: int, first: int, of: int) -> FaceSet:
    """Of the batches that these faces make, every `of`-th from `first` on."""
    return faces.select(index for index in range(len(faces)) if index // batch_size % of == first)


def refuse_other_code(same: bool) -> None:
    """Raise InputError in a process that has loaded other code than the run began with."""
    if not same:
        raise InputError("trainer: code was changed while the run goes; give the same command again")


def spread(
    config: Config,
    devices: Sequence[torch.device],
    work: Work,
    faces: FaceSet,
    take: Take,
    advance: Callable[[int], None],
    stages: Stages,
) -> None:
    """Do the work in a process for each device, and take the rows of each batch as it is done.

    `stages` gets the seconds that a device spent on each stage, the mean over the devices. When one fails, or the user
    asks to stop, the others end once their batch is kept. Raises what the first that failed has raised; InputError
    where a process was killed.

    Args:
        work: may be pickled; done with the config of each device alone and its share of the faces.

    """
    devices = devices[: -(-len(faces) // config.batch_size)]
    threads = max(torch.get_num_threads() // len(devices), 1)
    workers: dict[Connection, subprocess.Popen[bytes]] = {}
    try:
        for device in devices:
            workers |= [_started(device)]
        for number, pipe in enumerate(workers):
            part = share(faces, config.batch_size, number, len(devices))
            with suppress(ConnectionError):  # it has died: `_listen` tells
                pipe.send_bytes(_packed((work, alone(config), part, threads)))
        for seconds in _listen(dict(workers), take, advance):
            for name, spent in seconds.items():
                stages.seconds[name] = stages.seconds.get(name, 0) + spent / len(devices)
    finally:
        for pipe, process in workers.items():
            process.kill()  # those that still run: the user asked twice to stop, or their work cannot be kept
            process.wait()
            pipe.close()


def _started(device: torch.device) -> tuple[Connection, subprocess.Popen[bytes]]:
    """A process that waits for work, and the pipe to it. It is deaf to Ctrl-C and SIGTERM, which may reach it too."""
    ours, theirs = socket.socketpair()
    own = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), **only(device)}
    with theirs, _blocked():
        command = [sys.executable, "-c", START, str(theirs.fileno())]
        environment, handles = os.environ | own, [theirs.fileno()]
        process = subprocess.Popen(command, env=environment, pass_fds=handles, stdin=subprocess.DEVNULL)
    return Connection(ours.detach()), process


def only(device: torch.device) -> dict[str, str]:
    """The variable that hides other GPUs from a process: there this one is the first, for whatever library."""
    if device.type != "cuda":
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[device.index] if visible else str(device.index)}


@contextmanager
def _blocked() -> Iterator[None]:
    """Processes that start inside get no signal to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _packed(job: object) -> bytes:
    """By value: `torch.multiprocessing` would open a file for each tensor."""
    buffer = io.BytesIO()
    torch.save(job, buffer)
    return buffer.getvalue()


def _listen(
    workers: dict[Connection, subprocess.Popen[bytes]], take: Take, advance: Callable[[int], None]
) -> list[dict[str, float]]:
    """Take what workers find until all have ended; gives the seconds of each, or raises why one has failed."""
    found: dict[Connection, dict[str, float]] = {}
    reason: BaseException | None = None
    told = False
    while workers:
        done = 0
        for pipe in wait(list(workers), LOOK):
            assert isinstance(pipe, Connection)
            message = _message(workers, pipe, may_end=told or pipe in found)
            if isinstance(message, list):
                take(message)
                done += len(message)
            elif isinstance(message, dict):
                found[pipe] = message
            else:
                reason = reason or message
        if reason is None:
            try:
                advance(done)
            except Stopped as stopped:
                reason = stopped
        if reason is not None and not told:
            told = True
            for pipe in workers:
                with suppress(ConnectionError):
                    pipe.send(STOP)
    if reason is not None:
        raise reason
    return list(found.values())


def _message(
    workers: dict[Connection, subprocess.Popen[bytes]], pipe: Connection, may_end: bool
) -> list[Row] | dict[str, float] | Exception | None:
    """What a worker says: rows, at its end the seconds of its stages, or what it has raised. Of one that has ended and
    is taken off the list, None, or how it was killed or left its work.
    """
    try:
        return pipe.recv()
    except (EOFError, OSError):
        code = workers.pop(pipe).wait()
    if code == 0 and may_end:
        return None
    how = f"was killed by signal {-code} (for want of memory, say)" if code < 0 else f"left its work with code {code}"
    return InputError(
        f"trainer: the process of a device {how}; what is done is kept, the same command goes on from there"
    )


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, in the middle of a batch: who takes the run over paints it anew."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


def _plain(error: InputError | OSError) -> InputError | OSError:
    """The same of a class that every process can read: some packages' take more than what pickle keeps of them."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, error.filename)
    return InputError(str(error))


def serve(handle: int) -> None:
    """In a process that `spread` has started: do the work that comes through a pipe.

    Args:
        handle: the pipe's file descriptor.

    """
    pipe, console.quiet = Connection(handle), True
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def send(rows: list[Row]) -> None:
        try:
            pipe.send(rows)
            asked = pipe.poll()  # to stop; or the process that keeps the rows is gone
        except ConnectionError:
            asked = True
        if asked:
            raise Stopped(signal.SIGTERM)

    with suppress(Stopped, ConnectionError, EOFError):
        job = io.BytesIO(pipe.recv_bytes())
        try:
            work, config, faces, threads = torch.load(job, map_location="cpu", weights_only=False)
            torch.set_num_threads(threads)
            pipe.send(work(config, faces, send))
        except (InputError, OSError) as error:  # the user's to mend
            pipe.send(_plain(error))
        except Exception as error:  # raised again where the run is, with its traceback: not every error pickles
            where = "".join(traceback.format_exception(error))
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}\n\nIn a device's process:\n{where}"))
