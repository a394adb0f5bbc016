"""From scores to masks of an exact size: the one place where the ratio is applied, and what is kept."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from veil.errors import InputError
from veil.metrics.shape import raggedness_of
from veil.types import Masks, Scores, view, view_box

SMOOTHINGS = tuple(0.5 * 2 ** (step / 2) for step in range(12))  # standard deviations in 1/16 of the view, 0.5 to 23


def budget(
    scores: Scores,
    ratio: float,
    cells: int | None,
    size: tuple[int, int],
    protected: Masks | None = None,
    raggedness: float | None = None,
) -> Masks:
    """Mask the `round(ratio * cells**2)` cells of the view with the highest mean score.

    Args:
        scores: over the view, at any resolution; coarser ones are interpolated.
        ratio: share of the view to mask, in (0, 1].
        cells: side of the grid; `None`: single pixels.
        size: height and width of the crop in pixels. Nothing outside its view is masked.
        protected: what stays as it is (`veil.maskers.protect`). A cell that it touches is not masked; the next best is.
        raggedness: where a mask's `raggedness_of` is above this, the face's scores are smoothed, by no more than it
            takes, so that maskers are compared at equal raggedness too; where no smoothing reaches it, the least ragged
            mask is taken. `None`: the scores as they are.

    Raises ValueError where a score is not a finite number: no order, no mask. Raises InputError where the ratio does
    not fit into what is left of a face.

    """
    if not scores.isfinite().all():
        raise ValueError("the masker's scores hold NaN or infinity")
    rows, columns = view_box(*size)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    grid = on_grid(scores, (cells, cells) if cells else (height, width))[:, None]
    masks = _best(grid, ratio, size, protected)
    if raggedness is None:
        return masks
    ragged = raggedness_of(masks)
    for sigma in SMOOTHINGS:
        again = (ragged > raggedness).nonzero()[:, 0]
        if not len(again):
            break
        spared = None if protected is None else protected[again]
        smoother = _best(_smooth(grid[again], sigma * grid.shape[-1] / 16), ratio, size, spared)
        better = raggedness_of(smoother) < ragged[again]
        masks[again[better]], ragged[again[better]] = smoother[better], raggedness_of(smoother)[better]
    return masks


def _smooth(grid: Float[Tensor, "b 1 rows columns"], sigma: float) -> Float[Tensor, "b 1 rows columns"]:
    """A Gaussian's blur of `sigma` cells; cells beyond the edge repeat those at it."""
    reach = min(math.ceil(3 * sigma), 2 * max(grid.shape[-2:]))
    weights = torch.exp(-((torch.arange(-reach, reach + 1) / sigma) ** 2) / 2).to(grid)
    weights = weights / weights.sum()
    padded = F.pad(grid, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, weights[None, None, :, None]), weights[None, None, None])


def _best(
    grid: Float[Tensor, "b 1 rows columns"], ratio: float, size: tuple[int, int], protected: Masks | None
) -> Masks:
    """The cells of the highest scores, as pixels of the crop."""
    rows, columns = view_box(*size)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    flat = grid.flatten(1)
    count = round(ratio * flat.shape[1])
    if protected is not None:
        taken = _touched(view(protected), grid.shape[-2:])
        _check_room(count, taken, ratio)
        flat = flat.masked_fill(taken, -torch.inf)
    chosen = flat.argsort(dim=1, descending=True, stable=True)[:, :count]
    cover = torch.zeros_like(flat).scatter(1, chosen, 1.0).view_as(grid)
    masks = torch.zeros(len(grid), 1, *size, dtype=torch.bool, device=grid.device)
    masks[..., rows, columns] = F.interpolate(cover, (height, width)).bool()
    return masks


def on_grid(scores: Scores, grid: tuple[int, int]) -> Float[Tensor, "b rows columns"]:
    """Mean score of each cell of a grid over the view; interpolated where the scores are coarser."""
    if scores.shape[1] < grid[0] or scores.shape[2] < grid[1]:
        return F.interpolate(scores[:, None], grid, mode="bilinear", align_corners=False)[:, 0]
    return F.adaptive_avg_pool2d(scores[:, None], grid)[:, 0]


def _touched(protected: Masks, grid: torch.Size) -> Bool[Tensor, "b cells"]:
    return F.adaptive_max_pool2d(protected.float(), tuple(grid)).flatten(1).bool()


def _check_room(count: int, taken: Bool[Tensor, "b cells"], ratio: float) -> None:
    cells, left = taken.shape[1], int((~taken).sum(dim=1).min())
    if count > left:
        raise InputError(
            f"ratio must leave room for protect: at most {left / cells:.3g} where protect spares {cells - left} of the "
            f"{cells} cells of a face, got {ratio}"
        )


def covered(masks: Masks) -> Float[Tensor, " b"]:
    """Masked share of the view, as achieved, in [0, 1]."""
    return view(masks).double().mean(dim=(1, 2, 3))
