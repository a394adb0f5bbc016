"""Tasks that take no time and load nothing, for sweeps whose order and ends are what is tested."""

import time
from dataclasses import asdict
from pathlib import Path

from veil.config import Config
from veil.evaluation.results import Results, write_results
from veil.metrics.identification import RANKS
from veil.metrics.image import SSIM
from veil.metrics.intervals import Interval
from veil.metrics.measure import WORST, Figure, by_name
from veil.storage.folders import RunFolder, write_manifest
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


def measure(config: Config) -> Path:
    """A finished run, noted in `measured`: the more is repainted the less is named, and the less is left. seed=13
    fails; from ratio 0.8 on nobody can tell who is named.
    """
    if config.seed == 13:
        raise ZeroDivisionError("no luck")
    run = RunFolder(config.outputs, Path(f"ratio={config.ratio}-seed={config.seed}"), asdict(config))
    with run.claimed():
        if not run.complete:
            left = 1 - config.ratio
            named = "nobody is left" if left < 0.2 else Interval(left, left, left, 9)
            figures = [Figure(RANKS[1], named, WORST), Figure(SSIM, Interval(left, left, left, 9))]
            with run.writing() as folder:
                write_manifest(folder, [{"key": "1", "label": 0, "utility/ssim": left}])
                write_results(folder, Results(by_name(figures)))
            with Path(config.outputs, "measured").open("a") as file:
                file.write(f"{config.ratio}\n")
    return run.path
