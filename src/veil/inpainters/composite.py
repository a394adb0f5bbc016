"""Putting the repainted pixels back into the photo."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from veil.config import InputError
from veil.types import Images, Masks


def paste_back(original: Images, painted: Images, masks: Masks, feather: float = 0.0) -> Images:
    """`painted` inside the mask, `original` outside it, bit for bit.

    `feather` (px) fades from one to the other inside the mask only, so original pixels shine through a rim of that
    width: it hides seams and gives away a little of the face. 0 pastes hard.
    """
    if feather < 0:
        raise InputError(f"inpainter.feather is a width in pixels and must be at least 0, got {feather}")
    if feather == 0:
        return torch.where(masks, painted.clamp(0, 1), original)
    reach = math.ceil(feather)
    side = 2 * reach + 1
    inside = F.avg_pool2d(masks.to(original), side, stride=1, padding=reach, count_include_pad=False)
    return torch.where(masks, torch.lerp(original, painted, (2 * inside - 1).clamp(0, 1)), original)


def match_border(original: Images, painted: Images, masks: Masks, rim: int = 3) -> Images:
    """Shift the colours of `painted` inside the mask, smoothly, until they meet `original` at the mask's border.

    The difference on a rim of clear pixels round the mask is spread over the mask as a smooth membrane (Perez et al.
    2003, Poisson image editing), here by pull-push averaging from fine to coarse and back. Only clear pixels of
    `original` are read.
    """
    near = F.max_pool2d(masks.to(original), 2 * rim + 1, stride=1, padding=rim) > 0
    known = (near & ~masks).to(original)
    membrane = _pull_push((original - painted) * known, known)
    return torch.where(masks, (painted + membrane).clamp(0, 1), painted)


def _pull_push(values: Tensor, weights: Tensor) -> Tensor:
    """`values / weights` where weights are 1; between, what coarser and coarser averages of their neighbours say."""
    if min(values.shape[-2:]) <= 2:
        return values.mean(dim=(2, 3), keepdim=True) / weights.mean(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    coarse = _pull_push(F.avg_pool2d(values, 2, ceil_mode=True), F.avg_pool2d(weights, 2, ceil_mode=True))
    filled = F.interpolate(
        coarse.expand_as(F.avg_pool2d(values, 2, ceil_mode=True)), values.shape[-2:], mode="bilinear"
    )
    return values + (1 - weights) * filled
