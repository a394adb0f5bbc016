"""Several opinions, averaged by rank."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from veil.errors import InputError
from veil.maskers.budget import on_grid
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Scores, view


def ensemble(
    faces: Faces,
    recognizer: WhiteBox,
    maskers: Mapping[str, Callable[[Faces, WhiteBox], Scores]],
    weights: Mapping[str, float],
    cells: int | None,
) -> Scores:
    """Mean rank of each cell over several maskers and over the white box and its surrogates: what only one of them
    sees is less likely to fool a judge that none of them knows (Liu et al. 2017, Delving into Transferable Adversarial
    Examples, arXiv:1611.02770; ranks as in Dwork et al. 2001, Rank Aggregation Methods for the Web: Borda's count).

    Args:
        maskers: by name; each is asked once of each recogniser.
        weights: by the maskers' names, at least 0; 1 where there is none.

    """
    unknown = sorted(set(weights) - set(maskers))
    if unknown or not maskers or any(not weight >= 0 for weight in weights.values()):
        raise InputError(
            f"masker.weights must be numbers of at least 0 by the names in masker.maskers {list(maskers)}, got "
            f"{dict(weights)}"
        )
    total = [weights.get(name, 1.0) for name in maskers]
    if not sum(total):
        raise InputError(f"masker.weights must leave one masker a say, got {dict(weights)}")
    mean = torch.stack(
        [
            weight * ranks(masker(faces, member), faces, cells)
            for weight, masker in zip(total, maskers.values(), strict=True)
            for member in recognizer.members
        ]
    ).sum(dim=0)
    return mean / (sum(total) * len(recognizer.members))


def ranks(scores: Scores, faces: Faces, cells: int | None) -> Float[Tensor, "b rows columns"]:
    """Of each cell (pixel where `cells` is `None`) the share of the face's cells that score less, ties a half."""
    height, width = view(faces.images).shape[-2:]
    grid = on_grid(scores, (cells, cells) if cells else (height, width))
    flat = grid.flatten(1)
    order = rankdata(flat.cpu().numpy(), axis=1)
    return torch.from_numpy((order - 0.5) / flat.shape[1]).to(faces.images).view_as(grid)
