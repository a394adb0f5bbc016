"""What a multirun says: each failure at once, one table at the end.

Hydra imports this before every command, `--help` too: nothing heavy at the top.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

JOURNAL = "runs.jsonl"


class Sweep(Callback):
    """Collects a multirun's run folders, and fails at its end if a job failed.

    A job's outcome goes through a file, so that launchers which run jobs in other processes work too.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None  # set in a multirun only

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note where the sweep's own files go."""
        self.folder = Path(config.hydra.sweep.dir)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            sys.exit(f"error: outputs: {self.folder} cannot be written ({error.strerror})")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Report a failed job at once, and let the others go on."""
        if config.hydra.mode.name != "MULTIRUN":
            return
        outcome: dict[str, Any] = {"overrides": list(config.hydra.overrides.task)}
        if job_return.status == JobStatus.FAILED:
            error = job_return._return_value  # `return_value` would raise it
            outcome["error"] = str(error)
            print(f"FAILED {' '.join(outcome['overrides'])}: {error}", file=sys.stderr, flush=True)
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None
        else:
            outcome["folder"] = job_return.return_value
        with Path(config.hydra.sweep.dir, JOURNAL).open("a") as journal:
            journal.write(json.dumps(outcome) + "\n")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show one table over all runs; write `summary.csv` and `frontier.png`; exit with 1 if a job failed."""
        from veil.report.sweep import summarise

        assert self.folder is not None
        lines = (self.folder / JOURNAL).read_text().splitlines()
        outcomes: Sequence[dict[str, Any]] = [json.loads(line) for line in lines]
        summarise([Path(outcome["folder"]) for outcome in outcomes if "folder" in outcome], self.folder)
        if "wandb" in config.logger["_target_"]:
            from veil.tasks.publish import log_sweep  # loads Lightning

            log_sweep(config, self.folder)
        failed = [outcome for outcome in outcomes if "error" in outcome]
        if failed:
            print(f"{len(failed)} of {len(outcomes)} runs failed:", file=sys.stderr)
            for outcome in failed:
                print(f"  {' '.join(outcome['overrides'])}: {outcome['error']}", file=sys.stderr)
            sys.exit(1)
