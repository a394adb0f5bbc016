"""How long do the privacy figures take at scale, and how much memory?

    python benchmarks/scale.py

1:N scoring of random unit vectors (512 floats) at four sizes, and bootstraps of 1000 resamples over 10,000 people.
Sizes rise, and memory is the process's peak so far. Prints one JSON object.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from veil.metrics.identification import Comparison, recognition
from veil.metrics.intervals import bootstrap_mean
from veil.metrics.verification import pairs, verification

SIZES = ((2_000, 1_000), (20_000, 1_000), (20_000, 10_000), (200_000, 10_000))  # probes, templates


def clocked(function: Callable[..., Any], *arguments: Any) -> tuple[dict[str, float], Any]:
    """Seconds on the clock, and of all cores together: the two tell a busy machine from slow code."""
    start, worked = time.perf_counter(), time.process_time()
    result = function(*arguments)
    seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - worked}
    return {name: round(value, 2) for name, value in seconds.items()}, result


def draw(probes: int, templates: int, each: int, width: int) -> Comparison:
    """Random vectors of people with `each` templates; one probe in ten has no face."""
    generator = torch.Generator().manual_seed(0)
    enrolled = torch.arange(templates) // each
    probed = torch.arange(probes) % (templates // each)
    vectors = [F.normalize(torch.randn(size, width, generator=generator), dim=1) for size in (probes, templates)]
    vectors[0][::10] = 0
    return Comparison(vectors[0], probed, vectors[1], enrolled)


def gibibytes() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--each", type=int, default=4, help="templates of each person")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = vars(args) | {"before_gib": gibibytes(), "scoring": []}
    for probes, templates in SIZES:
        comparison = draw(probes, templates, args.each, args.width)
        seconds, _ = clocked(recognition, comparison, {1e-2: 0.2, 1e-3: 0.3, 1e-4: 0.4})
        result["scoring"].append({"probes": probes, "templates": templates, **seconds, "peak_gib": gibibytes()})
    seconds, found = clocked(pairs, comparison)
    result["pairs"] = {"pairs": len(found.cosines), **seconds, "peak_gib": gibibytes()}
    del comparison, found

    people = np.repeat(np.arange(10_000), 5)
    values = np.random.default_rng(0).random(len(people))
    seconds, _ = clocked(bootstrap_mean, values, people)
    result["bootstrap_mean"] = {"people": 10_000, **seconds, "peak_gib": gibibytes()}
    many = pairs(draw(50_000, 10_000, 1, 64))
    seconds, _ = clocked(verification, many)
    result["verification"] = {"people": 10_000, **seconds, "peak_gib": gibibytes()}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
