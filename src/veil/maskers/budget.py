"""From scores to masks of an exact size: the one place where the ratio is applied, and what is kept."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from veil.errors import InputError
from veil.types import Masks, Scores, view, view_box


def budget(
    scores: Scores, ratio: float, cells: int | None, size: tuple[int, int], protected: Masks | None = None
) -> Masks:
    """Mask the `round(ratio * cells**2)` cells of the view with the highest mean score.

    Args:
        scores: over the view, at any resolution; coarser ones are interpolated.
        ratio: share of the view to mask, in (0, 1].
        cells: side of the grid; `None`: single pixels.
        size: height and width of the crop in pixels. Nothing outside its view is masked.
        protected: what stays as it is (`veil.maskers.protect`). A cell that it touches is not masked; the next best is.

    Raises ValueError where a score is not a finite number: no order, no mask. Raises InputError where the ratio does
    not fit into what is left of a face.

    """
    if not scores.isfinite().all():
        raise ValueError("the masker's scores hold NaN or infinity")
    rows, columns = view_box(*size)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    grid = on_grid(scores, (cells, cells) if cells else (height, width))[:, None]
    flat = grid.flatten(1)
    count = round(ratio * flat.shape[1])
    if protected is not None:
        taken = _touched(view(protected), grid.shape[-2:])
        _check_room(count, taken, ratio)
        flat = flat.masked_fill(taken, -torch.inf)
    chosen = flat.argsort(dim=1, descending=True, stable=True)[:, :count]
    cover = torch.zeros_like(flat).scatter(1, chosen, 1.0).view_as(grid)
    masks = torch.zeros(len(scores), 1, *size, dtype=torch.bool, device=scores.device)
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
