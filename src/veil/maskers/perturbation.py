"""Maskers that hide parts of a face and ask how alike it still is: embeddings alone, no gradients."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from veil.errors import InputError
from veil.types import Faces, Identities, Images, Scores, view

CHUNK = 16  # pictures asked about at a time: on a CPU the fastest, as their maps stay in its caches


@runtime_checkable
class Comparer(Protocol):
    """All that is asked of a recogniser here: a `WhiteBox`, or anything that only returns scores."""

    def similarity(self, images: Images, identities: Identities) -> Float[Tensor, " b"]:
        """Cosine of each face to its person's centroid, or another score of likeness."""


@torch.no_grad()
def similarity_when_hidden(
    faces: Faces, index: int, hidden: Float[Tensor, "n h w"], recognizer: Comparer, fill: float
) -> Float[Tensor, " n"]:
    """Cosine of one face to its person's centroid when parts of its view are replaced by plain grey.

    One face at a time: what is asked about a face does not depend on the others of its batch.

    Args:
        hidden: of each picture, how much of each pixel of the view is replaced, in [0, 1].
        fill: the grey, in [0, 1].

    """
    if not 0 <= fill <= 1:
        raise InputError(f"masker.fill is a grey in [0, 1], got {fill}")
    pictures = faces.images[index].repeat(len(hidden), 1, 1, 1)
    view(pictures).lerp_(torch.full_like(view(pictures), fill), hidden[:, None].to(pictures))
    return recognizer.similarity(pictures, faces.identities[index].expand(len(hidden)))


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
