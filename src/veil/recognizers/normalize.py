"""What a network from elsewhere takes pixels for."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from veil.errors import InputError
from veil.types import Images

CHANNELS = ("rgb", "bgr")


class Normalize(nn.Module):
    """From RGB in [0, 1] to the network's own numbers: each channel less its mean, over its deviation, in its order.

    Args:
        mean: of red, green and blue in [0, 1], in this order whatever `channels` is; subtracted first.
        std: of red, green and blue, above 0; divides what is left. 1 / 255 for a network that takes 0 to 255.
        channels: the order in which the network takes them, `rgb` or `bgr`.

    Raises InputError for other values.

    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: str) -> None:
        super().__init__()
        numbers = [*mean, *std]
        if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, numbers)) or min(std) <= 0:
            raise InputError(f"mean and std have three numbers, std above 0, got {list(mean)} and {list(std)}")
        if channels not in CHANNELS:
            raise InputError(f"channels must be one of {CHANNELS}, got {channels!r}")
        self.channels = channels
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None], persistent=False)
        self.preprocessing = {"mean": list(map(float, mean)), "std": list(map(float, std)), "channels": channels}

    def forward(self, images: Images) -> Images:
        """Normalise, then order the channels; differentiable."""
        normalized = (images - self.mean) / self.std
        return normalized.flip(1) if self.channels == "bgr" else normalized
