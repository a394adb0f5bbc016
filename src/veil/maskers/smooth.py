"""Scores without salt and pepper: single pixels that stand out make holes that repainting undoes."""

import torch
from jaxtyping import Float
from torch import Tensor

from veil.errors import InputError
from veil.types import Scores


def blurred(scores: Scores, blur: float) -> Scores:
    """Gaussian blur of scores that have a value for each pixel; renormalised at the borders.

    Args:
        blur: standard deviation in pixels of the view; 0 leaves the scores as they are.

    """
    if not blur >= 0:
        raise InputError(f"masker.blur is a standard deviation in pixels, at least 0, got {blur}")
    if blur == 0:
        return scores
    down, across = (_weights(side, blur).to(scores) for side in scores.shape[1:])
    return down @ scores @ across.T


def _weights(side: int, blur: float) -> Float[Tensor, "side side"]:
    """Row i: how much each pixel adds to pixel i."""
    place = torch.arange(side, dtype=torch.float64)
    weights = (-((place[:, None] - place) ** 2) / (2 * blur**2)).exp()
    return (weights / weights.sum(dim=1, keepdim=True)).float()
