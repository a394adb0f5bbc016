"""How the learning rate goes, and where the draws of a batch come from."""

import math
from collections.abc import Callable
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

LOWEST = 0.1  # of the rate, where a cosine ends
Progress = Callable[[int], float]  # steps done -> share of the training that is done, in [0, 1]


class Draw(IntEnum):
    """What is drawn: each has its own numbers, whatever the seed."""

    NOISE = 0
    FRESH = 1
    PICKED = 2
    SHARD = 3
    HELD_OUT = 4
    ADVERSARY = 5


def by_steps(steps: int, warm_up: int) -> Progress:
    """Progress of a training that ends after `steps`, counted from the end of its warm-up."""
    return lambda step: min(1.0, max(0, step - warm_up) / max(1, steps - warm_up))


def warm_cosine(optimizer: torch.optim.Optimizer, warm_up: int, progress: Progress | None) -> dict:
    """Linear warm-up, then a cosine down to a tenth of the rate where `progress` is 1; without `progress` no fall.

    Not part of the checkpoint, so a run that is resumed with more steps follows the longer curve.
    """

    def share(step: int) -> float:
        done = 0.0 if progress is None else progress(step)
        fall = LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * done))
        return min(1.0, (step + 1) / max(1, warm_up)) * fall

    return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, share), "interval": "step"}


def warm_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """An exponential average of weights for `AveragedModel`: `decay` is reached slowly, so that what the weights were
    in the first steps is soon forgotten (at most (1 + n) / (10 + n) after n steps).
    """

    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        steps = float(count)
        with torch.no_grad():
            torch._foreach_lerp_(averages, current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return update


def generator_of(device: torch.device, *numbers: int) -> torch.Generator:
    """A generator on the device whose seed is a hash of the numbers: a run's seed, a device's and a batch's number."""
    numbers = (len(numbers), *numbers)  # zeros are appended to what is short: (0, 5) would be (0, 5, 0)
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device).manual_seed(seed)
