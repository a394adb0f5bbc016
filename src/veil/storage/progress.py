"""Progress bars of a run's stages, and the seconds each took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from veil.storage.stopping import stop_if_asked

EVERY = 5.0  # seconds between two tellings of a stage
console = Console()
if not console.is_terminal:
    console.width = 10_000  # a log has no edge at which a name must be cut


class Rate(ProgressColumn):
    """Units a second since the stage began."""

    def render(self, task: Task) -> Text:
        """E.g. `12.3 faces/s`."""
        seconds = task.finished_time or task.elapsed or 0
        rate = task.completed / seconds if seconds else 0
        return Text(f"{rate:.1f} {task.fields['unit']}/s")


class Stages:
    """What a run spends its time on; `listeners` are told how far it is, every `EVERY` seconds and at a stage's end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self.means: dict[str, float] = {}  # of what is measured so far, to be told too

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the time inside to `seconds[name]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start

    @contextmanager
    def bar(self, name: str, total: int | None, unit: str = "faces") -> Iterator[Callable[[int], None]]:
        """Show a bar and clock the stage; yields `advance(count)`. `total` is `None` where nobody knows it.

        What `advance` counts is kept: it raises Stopped where the user asked to stop.
        """
        columns = (
            TextColumn("{task.description:<20}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with self.clock(name), Progress(*columns, console=console) as progress:
            task = progress.add_task(name, total=total, unit=unit)
            begun = told = time.monotonic()

            def tell() -> None:
                done = int(progress.tasks[task].completed)
                rate = done / max(time.monotonic() - begun, 1e-9)
                for listener in self.listeners:
                    listener({"stage": name, f"{unit}_done": done, f"{unit}_a_second": rate, **self.means})

            def advance(count: int) -> None:
                nonlocal told
                progress.advance(task, count)
                if time.monotonic() - told >= EVERY:
                    told = time.monotonic()
                    tell()
                stop_if_asked()

            yield advance
            tell()
