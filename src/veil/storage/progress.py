"""Progress bars of a run's stages, and the seconds each took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from veil.storage.stopping import stop_if_asked

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
    """What a run spends its time on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

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

            def advance(count: int) -> None:
                progress.advance(task, count)
                stop_if_asked()

            yield advance
