"""A task that takes no time and loads nothing, for sweeps whose order and ends are what is tested."""

import time
from pathlib import Path

from veil.config import Config
from veil.storage.folders import RunFolder
from veil.storage.progress import Stages

BATCHES = 5


def nap(config: Config) -> Path:
    """Five batches of a tenth of a second; each is noted in `naps` when it is done, and done once. seed=13 fails."""
    if config.seed == 13:
        raise ZeroDivisionError("no luck\nat all")
    run = RunFolder(config.outputs, Path(f"seed={config.seed}"), {})
    with run.claimed():
        if not run.complete:
            with run.writing(), Stages().bar("nap", BATCHES, "batches") as advance:
                for batch in range(len(run.rows()), BATCHES):
                    time.sleep(0.1)
                    run.add([{"key": batch}])
                    with Path(config.outputs, "naps").open("a") as file:
                        file.write(f"{config.seed} {batch}\n")
                    advance(1)
    return run.path
