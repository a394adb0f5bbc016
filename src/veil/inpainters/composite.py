"""Putting the repainted pixels back into the photo."""

import math

import torch
from torch.nn import functional as F

from veil.types import Images, Masks


def paste_back(original: Images, painted: Images, masks: Masks, feather: float = 0) -> Images:
    """`painted` inside the mask, `original` outside it, bit for bit.

    `feather` (px) fades from one to the other inside the mask only, so original pixels shine through a rim of that
    width: it hides seams and gives away a little of the face. 0 pastes hard.
    """
    if feather < 0:
        raise ValueError(f"feather is a width in pixels, >= 0, got {feather}")
    if feather == 0:
        return torch.where(masks, painted, original)
    reach = math.ceil(feather)
    side = 2 * reach + 1
    inside = F.avg_pool2d(masks.to(original), side, stride=1, padding=reach, count_include_pad=False)
    return torch.where(masks, torch.lerp(original, painted, (2 * inside - 1).clamp(0, 1)), original)
