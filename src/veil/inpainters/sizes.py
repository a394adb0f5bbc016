"""Pictures and masks at a model's resolution."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from veil.types import Images, Masks


def resize(images: Images, side: int) -> Float[Tensor, "b 3 side side"]:
    """Square pictures of `side` px, in [0, 1]: means of areas when smaller, bicubic when larger."""
    if images.shape[-1] == side:
        return images
    if side < images.shape[-1]:
        return F.interpolate(images, (side, side), mode="area")
    return F.interpolate(images, (side, side), mode="bicubic").clamp(0, 1)


def resize_visible(images: Images, masks: Masks, side: int) -> Float[Tensor, "b 3 side side"]:
    """As `resize`, of the visible pixels alone: grey where there are none, so nothing of what is masked leaks out."""
    mode = "area" if side <= images.shape[-1] else "bilinear"
    clear = (~masks).to(images)
    sums, shares = (F.interpolate(part, (side, side), mode=mode) for part in (images * clear, clear))
    return torch.where(shares > 1e-3, sums / shares.clamp_min(1e-3), 0.5)


def cover(masks: Masks, side: int) -> Float[Tensor, "b 1 side side"]:
    """Masks of `side` px as 0 and 1: a pixel that is masked in part is masked, so nothing of it reaches the model."""
    return F.adaptive_max_pool2d(masks.float(), side)
