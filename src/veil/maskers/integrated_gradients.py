"""Gradients along a path."""

import torch
from captum.attr import IntegratedGradients

from veil.errors import InputError
from veil.maskers.saliency import evidence, over_channels
from veil.maskers.smooth import blurred
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Scores


@torch.enable_grad()
def integrated_gradients(
    faces: Faces,
    recognizer: WhiteBox,
    objective: str = "cosine",
    reduction: str = "max",
    steps: int = 16,
    baseline: float = 0.5,
    blur: float = 4.0,
) -> Scores:
    """What each pixel adds on the way from a plain grey picture to the face, by size: the integral of the input
    gradient times the way (Sundararajan et al. 2017, arXiv:1703.01365), by captum.

    Args:
        objective: `cosine` to the person's gallery centroid, or the classifier's `loss`.
        reduction: over colour channels, `max` or `l2`.
        steps: of the Gauss-Legendre quadrature; one pass each, in memory one after the other.
        baseline: the picture's grey, in [0, 1].
        blur: of the scores (`veil.maskers.smooth`), in pixels.

    """
    if steps < 1:
        raise InputError(f"masker.steps must be at least 1, got {steps}")
    if not 0 <= baseline <= 1:
        raise InputError(f"masker.baseline is a grey in [0, 1], got {baseline}")
    attributions = IntegratedGradients(evidence(recognizer, objective)).attribute(
        faces.images.detach(),
        baselines=baseline,
        additional_forward_args=(faces.identities,),
        n_steps=steps,
        internal_batch_size=len(faces.images),
    )
    return blurred(over_channels(attributions.to(faces.images), reduction), blur)
