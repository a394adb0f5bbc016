"""Class activation maps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from veil.config import InputError
from veil.recognizers.whitebox import WITHOUT_GRADIENTS, WhiteBox
from veil.types import Faces, Scores

Maps = Float[Tensor, "b channels i j"]
Weights = Float[Tensor, "b channels #i #j"]


@torch.enable_grad()
def gradcam(faces: Faces, recognizer: WhiteBox, layer: str, weighting: str = "gradcam") -> Scores:
    """Activations of `layer`, weighted by their mean gradient of the cosine to the person's gallery centroid
    (Selvaraju et al. 2016, arXiv:1610.02391).

    Without the paper's final ReLU: a budget needs an order everywhere, not only where the map is positive.

    Args:
        layer: of the recogniser, by its dotted name.
        weighting: `gradcam`; `gradcam++`, by the mean of positive gradients in which places that agree count more
            (Chattopadhyay et al. 2017, arXiv:1710.11063); `layercam`, each place by its own positive gradient, which
            keeps shallow layers sharp (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943). The latter two are derived
            for layers behind a ReLU.

    """
    if weighting not in WEIGHTINGS:
        raise InputError(f"masker.weighting must be one of {tuple(WEIGHTINGS)}, got {weighting!r}")
    images = faces.images.detach().requires_grad_()  # the trunk is frozen: the graph starts at the image
    with activations(_find(recognizer, layer)) as seen:
        similarity = recognizer.similarity(images, faces.identities)
    (gradient,) = torch.autograd.grad(similarity.sum(), seen[0])
    maps = seen[0].detach().float()  # of a white box in mixed precision they are bfloat16
    return (WEIGHTINGS[weighting](maps, gradient.float()) * maps).sum(dim=1)


def mean_gradient(_maps: Maps, gradient: Maps) -> Weights:
    """GradCAM."""
    return gradient.mean(dim=(2, 3), keepdim=True)


def weighted_gradient(maps: Maps, gradient: Maps) -> Weights:
    """GradCAM++: each place counts g^2 / (2 g^2 + sum(A) g^3); with g^2 cancelled, small gradients do not underflow."""
    agreement = 1 / (2 + maps.sum(dim=(2, 3), keepdim=True) * gradient)
    return (agreement * gradient.relu()).sum(dim=(2, 3), keepdim=True)


def own_gradient(_maps: Maps, gradient: Maps) -> Weights:
    """LayerCAM."""
    return gradient.relu()


WEIGHTINGS = {"gradcam": mean_gradient, "gradcam++": weighted_gradient, "layercam": own_gradient}


@contextmanager
def activations(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Outputs of `layer` while inside."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def _find(recognizer: WhiteBox, layer: str) -> nn.Module:
    network = getattr(recognizer.recognizer, "network", recognizer.recognizer)
    modules = dict(network.named_modules())
    if len(modules) == 1:
        name = type(recognizer.recognizer).__name__
        raise InputError(f"masker=gradcam needs a recogniser with layers, and {name} has none. {WITHOUT_GRADIENTS}")
    if layer not in modules:
        known = ", ".join(name for name, _ in network.named_children())
        raise InputError(f"masker.layer must name a layer of the recogniser ({known}), got {layer!r}")
    return modules[layer]
