"""Put the repainted pixels back into the original."""

import torch

from veil.types import Images, Masks


def paste_back(original: Images, painted: Images, masks: Masks) -> Images:
    """`painted` where masked; elsewhere `original`, bit for bit."""
    return torch.where(masks, painted.clamp(0, 1), original)
