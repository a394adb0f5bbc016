"""Albums on Ray: a process with networks of its own for each device, or for as many cores as are asked for."""

import functools
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from veil.albums.album import InProcess, Job, Line
from veil.albums.files import Source
from veil.albums.worker import Worker
from veil.config import Config
from veil.errors import InputError

WINDOW = 2048  # photos handed to Ray at once: what bounds memory, whatever the album's size
Make = Callable[[Config], Worker]
INSTALL = "engine=ray needs Ray Data: pip install 'veil[ray]'"


class RayEngine:
    """Ray Data's actors, of which each has a worker. A line is the same as if it came from this process.

    Args:
        make: gives a worker; each actor makes its own.
        config: of the command.
        workers: actors; None is one for each GPU, or without one for each core that Ray has.
        output: folder of the covered photos.

    """

    def __init__(self, make: Make, config: Config, output: Path, workers: int | None) -> None:
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise InputError(INSTALL) from error
        self.make, self.config, self.output = make, replace(config, engine="local"), output
        if not ray.is_initialized():
            path = os.pathsep.join(place or os.getcwd() for place in sys.path)
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": {"PYTHONPATH": path}})
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        resources = ray.cluster_resources()
        self.gpus = 1 if resources.get("GPU") else 0
        self.workers = workers or int(resources["GPU" if self.gpus else "CPU"])

    def look(self, sources: Iterable[Source]) -> Iterator[Line]:
        """As `veil.albums.album.Engine`."""
        return self._mapped("look", sources)

    def cover(self, jobs: Iterable[Job]) -> Iterator[Line]:
        """As `veil.albums.album.Engine`."""
        return self._mapped("cover", jobs)

    def _mapped(self, step: str, items: Iterable[Any]) -> Iterator[Line]:
        import ray.data

        actor: Any = Actor  # Ray takes a class whose objects are called
        waiting = iter(items)
        while window := [{"item": pickle.dumps(item)} for item in islice(waiting, WINDOW)]:
            count = min(self.workers, len(window))
            photos = ray.data.from_items(window, override_num_blocks=len(window))
            done = photos.map(
                actor,
                fn_constructor_args=(self.make, self.config, self.output, step, torch.get_num_threads()),
                compute=ray.data.ActorPoolStrategy(size=count),
                num_gpus=self.gpus,
                num_cpus=0 if self.gpus else 1,
            )
            for row in done.iter_rows():
                yield pickle.loads(row["line"])


class Actor:
    """One process: networks, and the photos that it is handed."""

    def __init__(self, make: Make, config: Config, output: Path, step: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.step: Callable[[Iterable[Any]], Iterator[Line]] = getattr(
            InProcess(functools.cache(partial(make, config)), output, config.on_no_face), step
        )

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """The line of a photo."""
        (line,) = self.step([pickle.loads(row["item"])])
        return {"line": pickle.dumps(line)}
