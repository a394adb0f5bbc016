"""How a training goes on: its learning rate, its count of steps, its precision, where its draws come from."""

import math
from collections.abc import Callable
from enum import IntEnum

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor


class Counted(pl.LightningModule):
    """Counts the batches that it was trained on, and the examples in them; its checkpoints keep both."""

    def __init__(self, samples_seen: int = 0) -> None:
        super().__init__()
        self.batches, self.samples_seen = 0, samples_seen

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint |= {"batches": self.batches, "samples_seen": self.samples_seen}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.batches, self.samples_seen = checkpoint["batches"], checkpoint["samples_seen"]


INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")  # of x86, and of ARM


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; False for a CPU of which this torch cannot tell."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in INSTRUCTIONS)


def resolved(device: torch.device, dtype: str) -> str:
    """`bfloat16` or `float32`: itself, or for `auto` bfloat16 where the device has it."""
    if dtype == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    return dtype


def mixed_precision(device: torch.device, dtype: str) -> torch.autocast:
    """Inside, layers that allow it compute in bfloat16, or none does, whatever the surroundings say.

    Args:
        dtype: `bfloat16`, `float32` or `auto`, see `resolved`.

    """
    return torch.autocast(device.type, torch.bfloat16, enabled=resolved(device, dtype) == "bfloat16")


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
