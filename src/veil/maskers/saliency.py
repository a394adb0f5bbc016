"""Input gradients."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from veil.errors import InputError
from veil.maskers.smooth import blurred
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Identities, Images, Scores, view

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
        blur: of the scores (`veil.maskers.smooth`), in pixels.

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
