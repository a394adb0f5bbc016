"""What a multirun says: each failure at once, how far it is, what is left, one table at the end.

Jobs write what becomes of them to the journal in the sweep's folder, whatever process or machine a launcher runs them
on; the process that launched them reads it. Hydra imports this before every command, `--help` too: nothing heavy at
the top.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from veil.errors import InputError
from veil.search import WrongObjectives, quiet_optuna, refuse_hopeless
from veil.storage.fingerprint import digest
from veil.storage.folders import ASKED, lock_file
from veil.storage.locks import locked
from veil.storage.progress import console
from veil.storage.stopping import run_begins, run_ended

JOURNAL = "runs.jsonl"
LAST = 5  # runs by whose length the rest is estimated
EVERY = 0.5  # seconds between two looks at the journal


class Sweep(Callback):
    """Tells the journal of each job, and a `Watch` of the whole."""

    watch: "Watch | None" = None  # in the process that launches, in a multirun

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begin to watch."""
        quiet_optuna(config)
        try:
            Sweep.watch = Watch(config)
        except InputError as error:
            sys.exit(f"error: {error}")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """From here on, Ctrl-C waits for the end of a batch."""
        run_begins()
        if config.hydra.mode.name == "MULTIRUN":
            if Sweep.watch is None and console.is_terminal:
                console.quiet = True  # bars of several processes on one screen would overwrite each other
            _note(config, {"started": time.time()})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Note how it ended; a failure is kept from Hydra, which would end the sweep."""
        error = None
        if config.hydra.mode.name == "MULTIRUN":
            outcome: dict[str, Any] = {"ended": time.time()}
            if job_return.status == JobStatus.FAILED:
                error = job_return._return_value  # `return_value` would raise it
                outcome |= {"error": cause(error), "traceback": "".join(traceback.format_exception(error))}
                job_return.status, job_return.return_value = JobStatus.COMPLETED, None
            else:
                outcome["folder"] = job_return.return_value.folder
            _note(config, outcome)
        run_ended()
        if error is not None and isinstance(error.__cause__, WrongObjectives) and Sweep.watch is not None:
            sys.exit(str(error))  # every run would fail so


def cause(error: BaseException) -> str:
    """One line: what the user can mend in its own words, anything else with its kind."""
    text = str(error).strip().split("\n")[0]
    told = text.removeprefix("error: ")
    return told if told != text else f"{type(error).__name__}: {text}"


def planned(config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job; None where the sweeper decides as it goes."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    sweeper = config.hydra.sweeper
    if not sweeper._target_.endswith(".BasicSweeper"):
        return None
    own = [f"{name}={value}" for name, value in (sweeper.params or {}).items()]
    asked = OverridesParser.create().parse_overrides([*own, *config.hydra.overrides.task])
    (jobs,) = BasicSweeper.split_arguments(asked, None)
    return jobs


def _note(config: DictConfig, event: dict[str, Any]) -> None:
    """Append a line to the journal, at once: other processes append to it too."""
    line = {"job": config.hydra.job.num, "overrides": list(config.hydra.overrides.task)} | event
    file = os.open(Path(config.hydra.sweep.dir, JOURNAL), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)
    if Sweep.watch is not None:
        Sweep.watch.look()


class Watch:
    """What is known of a sweep's jobs; says what is new, also while jobs run elsewhere.

    Args:
        config: the multirun's; no other sweep may use its folder meanwhile.

    Raises InputError where the folder cannot be written, or another sweep has it.

    """

    def __init__(self, config: DictConfig) -> None:
        self.config, self.folder, self.planned = config, Path(config.hydra.sweep.dir), planned(config)
        refuse_hopeless(config)
        self.started: dict[int, float] = {}
        self.ended: dict[int, dict[str, Any]] = {}  # in the order of their ends
        self._read, self._abreast, self._lock, self._over = 0, 1, threading.Lock(), threading.Event()
        self._held = ExitStack()
        self._held.enter_context(locked(lock_file(self.folder, "sweep"), self._refuse, "hydra.sweep.dir"))
        asked = sorted(config.hydra.overrides.task)
        (self.folder / ASKED).write_text(json.dumps({"group": f"sweep-{digest(asked, 4)}", "overrides": asked}))
        (self.folder / JOURNAL).write_text("")
        threading.Thread(target=self._keep_looking, daemon=True).start()

    def look(self) -> None:
        """Read what was added to the journal, and say it."""
        with self._lock:
            with (self.folder / JOURNAL).open("rb") as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                self._take(json.loads(line))

    def end(self) -> int:
        """Show one table over all runs, write `summary.csv` and pictures, say what failed and what is left; give how
        many are not done.
        """
        self._over.set()
        self.look()
        folders = [Path(job["folder"]) for _, job in sorted(self.ended.items()) if "folder" in job]
        measured = [folder for folder in dict.fromkeys(folders) if (folder / "metrics.json").exists()]
        if measured:
            from veil.report.sweep import Options, summarise

            objectives = list(self.config.objectives)
            try:
                summarise(measured, self.folder, Options(axes=objectives if len(objectives) == 2 else ()))
            except InputError as error:  # they are the same in all runs, say
                print(f"{error}; here the headlines", file=sys.stderr)
                summarise(measured, self.folder)
        best = self.folder / "optimization_results.yaml"
        if best.exists():
            console.print(f"Best:     {best}", soft_wrap=True)
        failed = {number: job for number, job in sorted(self.ended.items()) if "error" in job}
        if failed:
            print(f"{len(failed)} of {self.total or len(self.ended)} runs failed:", file=sys.stderr)
            for job in failed.values():
                print(f"  {self._own(job['overrides'])}: {job['error']}", file=sys.stderr)
        left = [overrides for number, overrides in enumerate(self.planned or []) if number not in self.ended]
        if left:
            print(f"{len(left)} of {self.total} runs are left; the same command goes on with them:", file=sys.stderr)
            for overrides in left:
                print(f"  {self._own(overrides)}", file=sys.stderr)
        elif measured and "wandb" in self.config.logger["_target_"]:  # one that was stopped is logged when it is done
            from veil.tasks.publish import log_sweep  # loads Lightning

            log_sweep(self.config, self.folder)
        self._held.close()
        return len(failed) + len(left)

    @property
    def total(self) -> int:
        """How many jobs there will be; 0 where nobody knows."""
        return len(self.planned or [])

    def _take(self, event: dict[str, Any]) -> None:
        if "started" in event:
            self.started[event["job"]] = event["started"]
            self._abreast = max(self._abreast, len(self.started.keys() - self.ended.keys()))
            return
        self.ended[event["job"]] = event
        if "error" in event:
            print(f"FAILED {self._own(event['overrides'])}: {event['error']}", file=sys.stderr, flush=True)
        console.print(f"{self._progress()}  {self._own(event['overrides'])}", markup=False, soft_wrap=True)

    def _progress(self) -> str:
        """E.g. `[4 of 12 done, 1 failed, 2 running, ends in 5 min]`."""
        failed = sum("error" in job for job in self.ended.values())
        running = len(self.started.keys() - self.ended.keys())
        parts = [f"{len(self.ended) - failed}{f' of {self.total}' if self.total else ''} done"]
        parts += [f"{count} {word}" for count, word in ((failed, "failed"), (running, "running")) if count]
        left = self.total - len(self.ended)
        if left > 0:
            last = list(self.ended.items())[-LAST:]
            mean = sum(job["ended"] - self.started[number] for number, job in last) / len(last)
            parts.append(f"ends in {duration(left * mean / self._abreast)}")
        return f"[{', '.join(parts)}]"

    def _own(self, overrides: Sequence[str]) -> str:
        """What tells a job from the others."""
        if self.planned is None:
            common = set(self.config.hydra.overrides.task)
        else:
            common = set.intersection(*map(set, self.planned)) if self.total > 1 else set()
        return " ".join(override for override in overrides if override not in common)

    def _keep_looking(self) -> None:
        while not self._over.wait(EVERY):
            self.look()

    def _refuse(self, owner: str) -> None:
        raise InputError(f"hydra.sweep.dir: another sweep ({owner}) runs in {self.folder}")


def duration(seconds: float) -> str:
    """E.g. `40 s`, `5 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
