"""What a model is shown, at its own resolution, and how what it paints comes back into the photo."""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from veil.errors import InputError
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


def with_lone_latents(masks: Float[Tensor, "b 1 side side"], factor: int) -> Float[Tensor, "b 1 side side"]:
    """Masks that a latent model does not pass over.

    A pipeline tells its model of a latent by one of its `factor` x `factor` pixels (nearest neighbour). A latent with
    masked pixels that is told of neither by itself nor by a neighbour, as under scattered single pixels, is masked
    whole; all others stay as they are, which is how models are trained.
    """
    side = masks.shape[-1] // factor
    touched, told = F.adaptive_max_pool2d(masks, side), F.interpolate(masks, (side, side))
    lone = touched * (1 - F.max_pool2d(told, 3, stride=1, padding=1))
    return torch.maximum(masks, F.interpolate(lone, masks.shape[-2:]))


NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4


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


def match_border(original: Images, painted: Images, masks: Masks, rim: int = 3, sweeps: int = 8) -> Images:
    """Shift the colours of `painted` inside the mask, smoothly, until they meet `original` at the mask's border.

    The shift is the difference at the border, spread over the mask as a harmonic membrane: Poisson image editing (Perez
    et al. 2003) in its form with Laplace's equation, solved from coarse grids to fine ones (cascadic multigrid,
    Bornemann and Deuflhard 1996). Only clear pixels of `original` are read, none farther than `rim` px from the mask.

    Args:
        sweeps: relaxations on each grid; 8 leave a mean error under 3 % of the shift's spread.

    """
    near = masks.to(original)
    for kernel, padding in (((2 * rim + 1, 1), (rim, 0)), ((1, 2 * rim + 1), (0, rim))):
        near = F.max_pool2d(near, kernel, stride=1, padding=padding)
    near = near > 0
    result = painted.clone()
    for face, around in enumerate(near[:, 0]):  # each in its own box, so that no face depends on its batch
        if not around.any():
            continue
        rows, columns = (slice(int(at.min()), int(at.max()) + 1) for at in around.nonzero().unbind(dim=1))
        box = (slice(face, face + 1), slice(None), rows, columns)
        inside, holes = painted[box], masks[box]
        shift = _membrane((original[box] - inside).cpu(), (near[box] & ~holes).cpu(), sweeps)
        result[box] = torch.where(holes, (inside + shift.to(inside)).clamp(0, 1), inside)
    return result


def _membrane(values: Tensor, known: Tensor, sweeps: int) -> Tensor:
    """`values` where they are `known`; elsewhere each pixel is the mean of its neighbours, nearly."""
    weights = known.to(values)
    values = values * weights
    if min(values.shape[-2:]) <= 2:
        mean = values.sum(dim=(2, 3), keepdim=True) / weights.sum(dim=(2, 3), keepdim=True).clamp_min(1)
        return torch.where(known, values, mean)
    shares = F.avg_pool2d(weights, 2, ceil_mode=True)
    means = F.avg_pool2d(values, 2, ceil_mode=True) / shares.clamp_min(1e-6)
    coarse = _membrane(means, shares > 0, sweeps)
    membrane = torch.where(known, values, F.interpolate(coarse, values.shape[-2:], mode="bilinear"))
    return _relaxed(membrane, values, known, sweeps)


def _relaxed(membrane: Tensor, values: Tensor, known: Tensor, sweeps: int) -> Tensor:
    """Each unknown pixel the mean of its four neighbours, `sweeps` times over; OpenCV's filter is the quickest."""
    grid, fixed = (np.ascontiguousarray(part[0].permute(1, 2, 0).numpy()) for part in (membrane, values))
    where = known[0, 0].byte().numpy()
    for _ in range(sweeps):
        grid = cv2.filter2D(grid, -1, NEIGHBOURS, borderType=cv2.BORDER_REPLICATE)
        cv2.copyTo(fixed, where, grid)
    return torch.from_numpy(grid).permute(2, 0, 1)[None]
