"""Class activation maps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from veil.config import InputError
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Scores


@torch.enable_grad()
def gradcam(faces: Faces, recognizer: WhiteBox, layer: str) -> Scores:
    """Activations of `layer`, weighted by their mean gradient of the cosine to the person's gallery centroid
    (Selvaraju et al. 2016, arXiv:1610.02391).

    Without the paper's final ReLU: a budget needs an order everywhere, not only where the map is positive.
    """
    images = faces.images.detach().requires_grad_()  # the trunk is frozen: the graph starts at the image
    with activations(_find(recognizer, layer)) as seen:
        similarity = recognizer.similarity(images, faces.identities)
    (gradient,) = torch.autograd.grad(similarity.sum(), seen[0])
    return (gradient.mean(dim=(2, 3), keepdim=True) * seen[0]).sum(dim=1).detach()


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
    if layer not in modules:
        known = ", ".join(name for name, _ in network.named_children())
        raise InputError(f"masker.layer must name a layer of the recogniser ({known}), got {layer!r}")
    return modules[layer]
