"""Masks to train the inpainter on, drawn as maskers draw them: inside the view.

Patches and blobs of 5 to 95 % of the view, boxes, the whole view or the ellipse of the face in it.

Every shape is drawn for a whole batch at once, on the device of the generator.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional as F

from veil.types import CROP, Masks, view_box

CELLS = 16  # the maskers' default grid
SHAPES = {"patches": 0.3, "blobs": 0.4, "boxes": 0.1, "face": 0.2}  # how often each is drawn
COARSE = range(3, 9)  # cells a side of the noise that blobs are made of

Views = Bool[Tensor, "n side side"]


def draw_masks(count: int, generator: Generator, shapes: Mapping[str, float] = SHAPES, size: int = CROP) -> Masks:
    """`count` masks of crops of `size` x `size` px, each of a random shape; nothing outside the view is ever masked.

    Args:
        shapes: how often each shape of `SHAPES` is drawn; the numbers need not sum to 1, and a shape may be absent.

    """
    device = generator.device
    rows, columns = view_box(size, size)
    side = rows.stop - rows.start
    draws = {"patches": patches, "blobs": blobs, "boxes": boxes, "face": face}
    shares = torch.tensor([float(shapes.get(name, 0)) for name in draws], device=device)
    shape = torch.multinomial(shares, count, replacement=True, generator=generator)
    views = torch.zeros(count, side, side, dtype=torch.bool, device=device)
    for number, draw in enumerate(draws.values()):
        at = (shape == number).nonzero()[:, 0]
        views[at] = draw(len(at), side, generator)
    masks = torch.zeros(count, 1, size, size, dtype=torch.bool, device=device)
    masks[:, 0, rows, columns] = views
    return masks


def uniform(low: float, high: float, generator: Generator, *shape: int) -> Tensor:
    """Numbers in [low, high) of this shape."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def highest(scores: Float[Tensor, "n i j"], ratios: Float[Tensor, " n"]) -> Bool[Tensor, "n i j"]:
    """The share `ratios`, in [0, 1], of each face's scores that is highest; one at least."""
    flat = scores.flatten(1)
    wanted = (ratios * flat.shape[1]).round().clamp_min(1)
    chosen = torch.arange(flat.shape[1], device=flat.device) < wanted[:, None]
    order = flat.argsort(dim=1, descending=True)
    return torch.zeros_like(chosen).scatter(1, order, chosen).view_as(scores)


def enlarge(cells: Bool[Tensor, "n i j"], side: int) -> Views:
    """The same masks at `side` x `side` px, a multiple of the cells."""
    return F.interpolate(cells[:, None].float(), (side, side))[:, 0].bool()


def patches(count: int, side: int, generator: Generator) -> Views:
    """Single cells, more of them near the centre; without replacement (Kool et al. 2019, arXiv:1903.06059)."""
    axis = torch.linspace(-1, 1, CELLS, device=generator.device)
    log_weight = -uniform(0, 2, generator, count, 1, 1) * (axis[:, None] ** 2 + axis**2)
    gumbel = -uniform(0, 1, generator, count, CELLS, CELLS).clamp_min(1e-9).log().neg().log()
    return enlarge(highest(log_weight + gumbel, uniform(0.05, 0.95, generator, count)), side)


def blobs(count: int, side: int, generator: Generator) -> Views:
    """Smooth regions, as saliency gives when it is pooled: noise of 3 to 8 cells, on the grid or in single pixels."""
    device = generator.device
    coarse = torch.randint(COARSE.start, COARSE.stop, (count,), generator=generator, device=device)
    on_grid = uniform(0, 1, generator, count) < 0.7
    ratios = uniform(0.05, 0.95, generator, count)
    views = torch.zeros(count, side, side, dtype=torch.bool, device=device)
    for cells in COARSE:
        for fine, chosen in ((CELLS, on_grid), (side, ~on_grid)):
            at = ((coarse == cells) & chosen).nonzero()[:, 0]
            if len(at):
                noise = torch.randn(len(at), 1, cells, cells, generator=generator, device=device)
                scores = F.interpolate(noise, (fine, fine), mode="bicubic", align_corners=False)[:, 0]
                views[at] = enlarge(highest(scores, ratios[at]), side)
    return views


def boxes(count: int, side: int, generator: Generator) -> Views:
    """One to three rectangles, 20 to 80 % of the view high and wide."""
    wanted = torch.randint(1, 4, (count, 1, 1), generator=generator, device=generator.device)
    axis = torch.arange(side, device=generator.device)
    views = torch.zeros(count, side, side, dtype=torch.bool, device=generator.device)
    for number in range(3):
        lengths = (side * uniform(0.2, 0.8, generator, count, 2, 1)).round()
        starts = (uniform(0, 1, generator, count, 2, 1) * (side - lengths + 1)).floor()
        down, across = ((axis >= starts) & (axis < starts + lengths)).unbind(dim=1)
        views |= down[:, :, None] & across[:, None, :] & (wanted > number)
    return views


def face(count: int, side: int, generator: Generator) -> Views:
    """The whole view, or the ellipse of the face in it."""
    axis = torch.linspace(-1, 1, side, device=generator.device)
    across, down = uniform(0.6, 0.95, generator, count, 1, 1), uniform(0.75, 1, generator, count, 1, 1)
    ellipse = (axis[:, None] / down) ** 2 + (axis / across) ** 2 <= 1
    return ellipse | (uniform(0, 1, generator, count, 1, 1) < 0.5)
