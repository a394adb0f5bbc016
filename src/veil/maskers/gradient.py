"""Maskers that follow gradients in the pixels."""

from collections.abc import Callable, Iterator

import torch
from captum.attr import IntegratedGradients
from jaxtyping import Float
from torch import Tensor

from veil.errors import InputError
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Identities, Images, Scores, view


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


OBJECTIVES = ("loss", "cosine")
REDUCTIONS = ("max", "l2")


@torch.enable_grad()
def saliency(
    faces: Faces,
    recognizer: WhiteBox,
    objective: str = "loss",
    reduction: str = "max",
    draws: int = 1,
    noise: float = 0.0,
    times_input: bool = False,
    blur: float = 0.0,
) -> Scores:
    """Largest absolute input gradient of the classifier's loss for the true person (Simonyan et al. 2013,
    arXiv:1312.6034), over colour channels.

    Args:
        objective: `loss`, or `cosine` to the person's gallery centroid.
        reduction: over colour channels, `max` or `l2`.
        draws: noisy copies of the face over which the gradient is averaged (SmoothGrad: Smilkov et al. 2017,
            arXiv:1706.03825). One pass each, in memory one after the other.
        noise: their standard deviation, pixels being in [0, 1]; drawn from each face's own seed.
        times_input: gradient x input (Shrikumar et al. 2016, arXiv:1605.01713).
        blur: of the scores (`veil.maskers.gradient`), in pixels.

    """
    if draws < 1 or not noise >= 0 or (draws > 1 and noise == 0):
        raise InputError(
            f"masker.draws must be at least 1, masker.noise at least 0, and above 0 where there are more draws than "
            f"one, got draws={draws} noise={noise}"
        )
    target = evidence(recognizer, objective)
    total = torch.zeros_like(faces.images)
    for images in _noisy(faces, draws, noise):
        images.requires_grad_()
        total += torch.autograd.grad(target(images, faces.identities).sum(), images)[0]
    gradient = total / draws
    return blurred(over_channels(gradient * faces.images if times_input else gradient, reduction), blur)


def _noisy(faces: Faces, draws: int, noise: float) -> Iterator[Images]:
    """Copies with noise from each face's own generator."""
    generators = [torch.Generator().manual_seed(seed) for seed in faces.seeds.tolist()]
    for _ in range(draws):
        if noise:
            drawn = [torch.randn(faces.images.shape[1:], generator=generator) for generator in generators]
            yield faces.images.detach() + noise * torch.stack(drawn).to(faces.images)
        else:
            yield faces.images.detach().clone()


def evidence(recognizer: WhiteBox, objective: str) -> Callable[[Images, Identities], Float[Tensor, " b"]]:
    """What is differentiated: one number a face."""
    if objective not in OBJECTIVES:
        raise InputError(f"masker.objective must be one of {OBJECTIVES}, got {objective!r}")
    return recognizer.loss if objective == "loss" else recognizer.similarity


def over_channels(attributions: Images, reduction: str) -> Scores:
    """Size of the attributions to a pixel's colour channels, in the view."""
    if reduction not in REDUCTIONS:
        raise InputError(f"masker.reduction must be one of {REDUCTIONS}, got {reduction!r}")
    inside = view(attributions).detach()
    return inside.abs().amax(dim=1) if reduction == "max" else inside.norm(dim=1)


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
        blur: of the scores (`veil.maskers.gradient`), in pixels.

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
