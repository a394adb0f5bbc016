"""A patch that slides over the face."""

import torch
from jaxtyping import Float
from torch import Tensor

from veil.errors import InputError
from veil.maskers.blackbox import CHUNK, Comparer, similarity_when_hidden
from veil.types import Faces, Scores, view


@torch.no_grad()
def occlusion(faces: Faces, recognizer: Comparer, grid: int = 10, patch: float = 0.2, fill: float = 0.5) -> Scores:
    """How much the cosine to the person's gallery centroid falls when a grey square hides each place (Zeiler and Fergus
    2013, arXiv:1311.2901). Needs embeddings alone, no gradients.

    Args:
        grid: places a side; `grid**2` passes a face, and a map of as many values.
        patch: side of the square, as a share of the view's.
        fill: its grey, in [0, 1].

    """
    if grid < 1:
        raise InputError(f"masker.grid must be at least 1, got {grid}")
    if not 0 < patch <= 1:
        raise InputError(f"masker.patch is a share of the view's side, in (0, 1], got {patch}")
    height, width = view(faces.images).shape[-2:]
    down, across = _bands(height, grid, patch), _bands(width, grid, patch)
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid)).split(CHUNK)
    scores = []
    for index in range(len(faces.images)):
        chunks = (down[part[:, 0], :, None] * across[part[:, 1], None] for part in places)
        kept = [similarity_when_hidden(faces, index, hidden, recognizer, fill) for hidden in chunks]
        scores.append(-torch.cat(kept).view(grid, grid))
    return torch.stack(scores)


def _bands(side: int, grid: int, patch: float) -> Float[Tensor, "grid side"]:
    """Of each place along a side, the pixels of a patch centred on it; each hides at least the nearest pixel."""
    centres = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
    distance = ((torch.arange(side, dtype=torch.float64) + 0.5) / side - centres[:, None]).abs()
    reach = distance.amin(dim=1, keepdim=True).clamp(min=patch / 2)
    return (distance <= reach + 1e-9).float()
