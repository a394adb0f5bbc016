"""Masks to train the inpainter on, drawn as maskers draw them: inside the view, 5 to 95 % of it, whatever the shape."""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

from veil.types import CROP, Masks, view_box

CELLS = 16  # the maskers' default grid
SHAPES = {"patches": 0.4, "blobs": 0.25, "boxes": 0.15, "face": 0.2}  # how often each is drawn

View = Bool[Tensor, "h w"]


def draw_masks(count: int, generator: Generator, size: int = CROP) -> Masks:
    """`count` masks of `size` x `size` px crops, each of a random shape; nothing outside the view is ever masked."""
    masks = torch.zeros(count, 1, size, size, dtype=torch.bool)
    rows, columns = view_box(size, size)
    side = rows.stop - rows.start
    draws = (patches, blobs, boxes, face)
    shapes = torch.multinomial(torch.tensor(tuple(SHAPES.values())), count, replacement=True, generator=generator)
    for mask, shape in zip(masks, shapes.tolist(), strict=True):
        mask[0, rows, columns] = draws[shape](side, generator)
    return masks


def uniform(low: float, high: float, generator: Generator) -> float:
    """A number in [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def highest(scores: Float[Tensor, "i j"], ratio: float, side: int) -> View:
    """The `ratio` of `scores` that are highest, as a mask of `side` x `side` px."""
    chosen = scores.flatten().topk(max(1, round(ratio * scores.numel()))).indices
    flat = torch.zeros(scores.numel()).scatter(0, chosen, 1.0)
    return F.interpolate(flat.view(1, 1, *scores.shape), (side, side))[0, 0].bool()


def patches(side: int, generator: Generator) -> View:
    """Single cells, more of them near the centre; without replacement (Kool et al. 2019, arXiv:1903.06059)."""
    axis = torch.linspace(-1, 1, CELLS)
    log_weight = -uniform(0.0, 2.0, generator) * (axis[:, None] ** 2 + axis**2)
    gumbel = -torch.rand(CELLS, CELLS, generator=generator).clamp_min(1e-9).log().neg().log()
    return highest(log_weight + gumbel, uniform(0.05, 0.95, generator), side)


def blobs(side: int, generator: Generator) -> View:
    """Smooth regions, as saliency gives when it is pooled: noise of 3 to 8 cells, on the grid or in single pixels."""
    coarse = int(uniform(3.0, 9.0, generator))
    noise = torch.randn(1, 1, coarse, coarse, generator=generator)
    fine = CELLS if uniform(0.0, 1.0, generator) < 0.7 else side
    scores = F.interpolate(noise, (fine, fine), mode="bicubic", align_corners=False)[0, 0]
    return highest(scores, uniform(0.05, 0.95, generator), side)


def boxes(side: int, generator: Generator) -> View:
    """One to three rectangles."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    for _ in range(int(uniform(1.0, 4.0, generator))):
        height, width = (round(side * uniform(0.2, 0.8, generator)) for _ in range(2))
        top, left = (int(uniform(0.0, side - length + 1.0, generator)) for length in (height, width))
        mask[top : top + height, left : left + width] = True
    return mask


def face(side: int, generator: Generator) -> View:
    """The whole view, or the ellipse of the face in it."""
    if uniform(0.0, 1.0, generator) < 0.5:
        return torch.ones(side, side, dtype=torch.bool)
    axis = torch.linspace(-1, 1, side)
    across, down = uniform(0.6, 0.95, generator), uniform(0.75, 1.0, generator)
    return (axis[:, None] / down) ** 2 + (axis / across) ** 2 <= 1
