"""Random masks."""

import torch
from jaxtyping import Float
from torch import Tensor

from veil.errors import InputError
from veil.maskers.blackbox import CHUNK, Comparer, similarity_when_hidden
from veil.types import Faces, Scores, view


@torch.no_grad()
def rise(
    faces: Faces, recognizer: Comparer, masks: int = 256, grid: int = 7, visible: float = 0.5, fill: float = 0.5
) -> Scores:
    """Mean cosine to the person's gallery centroid over random masks that leave a pixel visible (Petsiuk et al. 2018,
    arXiv:1806.07421). Needs embeddings alone, no gradients.

    The paper divides by the expected number of masks that show a pixel; dividing by the number itself estimates the
    same mean with less noise. Each face draws its masks from its own seed.

    Args:
        masks: passes a face. The noise falls with their square root.
        grid: cells a side of a mask, before it is enlarged smoothly and shifted at random.
        visible: chance of a cell to stay visible, in (0, 1).
        fill: grey of what is hidden, in [0, 1].

    """
    if masks < 1 or grid < 1:
        raise InputError(f"masker.masks and masker.grid must be at least 1, got masks={masks} grid={grid}")
    if not 0 < visible < 1:
        raise InputError(f"masker.visible is a chance in (0, 1), got {visible}")
    height, width = view(faces.images).shape[-2:]
    scores = []
    for index, seed in enumerate(faces.seeds.tolist()):
        generator = torch.Generator().manual_seed(seed)
        cells = (torch.rand(masks, grid + 2, grid + 2, generator=generator) < visible).float()
        shifts = torch.rand(masks, 2, generator=generator)
        total, seen = torch.zeros(2, height, width, device=faces.images.device)
        for some, moves in zip(cells.split(CHUNK), shifts.split(CHUNK), strict=True):
            shown = (_hats(height, moves[:, 0], grid) @ some @ _hats(width, moves[:, 1], grid).mT).to(total)
            similarity = similarity_when_hidden(faces, index, 1 - shown, recognizer, fill)
            total += torch.einsum("n,nhw->hw", similarity, shown)
            seen += shown.sum(dim=0)
        scores.append(total / seen.clamp(min=1e-6))  # a pixel that no mask shows: 0
    return torch.stack(scores)


def _hats(side: int, shifts: Float[Tensor, " n"], grid: int) -> Float[Tensor, "n side cells"]:
    """Bilinear interpolation along a side: how much each cell counts at each pixel. Shifts are in cells, in [0, 1)."""
    places = (torch.arange(side) + 0.5) / side * grid + shifts[:, None]
    return (1 - (places[:, :, None] - torch.arange(grid + 2)).abs()).clamp(min=0)
