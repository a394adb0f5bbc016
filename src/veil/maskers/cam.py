"""Class activation maps."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from veil.errors import InputError
from veil.recognizers.whitebox import WITHOUT_GRADIENTS, WhiteBox
from veil.types import Faces, Scores

Maps = Float[Tensor, "b channels i j"]
Weights = Float[Tensor, "b channels #i #j"]
CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)  # whatever the shape of what they give


@torch.enable_grad()
def gradcam(faces: Faces, recognizer: WhiteBox, layer: str, weighting: str = "gradcam") -> Scores:
    """Activations of `layer`, weighted by their mean gradient of the cosine to the person's gallery centroid
    (Selvaraju et al. 2016, arXiv:1610.02391).

    Without the paper's final ReLU: a budget needs an order everywhere, not only where the map is positive.

    Args:
        layer: of the recogniser, by its dotted name: square maps with channels first or last, or a vision
            transformer's tokens (`arrangement`).
        weighting: `gradcam`; `gradcam++`, by the mean of positive gradients in which places that agree count more
            (Chattopadhyay et al. 2017, arXiv:1710.11063); `layercam`, each place by its own positive gradient, which
            keeps shallow layers sharp (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943). The latter two are derived
            for layers behind a ReLU.

    """
    if weighting not in WEIGHTINGS:
        raise InputError(f"masker.weighting must be one of {tuple(WEIGHTINGS)}, got {weighting!r}")
    images = faces.images.detach().requires_grad_()  # the trunk is frozen: the graph starts at the image
    module = _find(recognizer, layer)
    with activations(module) as seen:
        similarity = recognizer.similarity(images, faces.identities)
    if not similarity.any():  # no face is found: no place counts
        return images.detach().new_zeros(len(images), 1, 1)
    if not seen:
        raise InputError(f"masker.layer must be run for an embedding, and {layer!r} is not")
    found = torch.ones(len(images), dtype=torch.bool, device=images.device)
    if isinstance(seen[0], Tensor) and len(seen[0]) != len(images):  # the network may see the faces that are found only
        with torch.no_grad():
            found = recognizer(images).norm(dim=1) > 0
    arrange = arrangement(layer, module, seen[0], int(found.sum()))
    (gradient,) = torch.autograd.grad(similarity.sum(), seen[0], allow_unused=True)
    slopes = arrange(torch.zeros_like(seen[0]) if gradient is None else gradient).float()
    places = int(slopes.flatten(2).any(dim=1).any(dim=0).sum())
    if places < 2:
        raise InputError(
            f"masker.layer must have several places that the embedding depends on, got {places} in {layer!r}"
        )
    maps = arrange(seen[0].detach().float())  # of a white box in mixed precision they are bfloat16
    scores = maps.new_zeros(len(images), *maps.shape[2:])  # of a face that is not found no place counts
    scores[found] = (WEIGHTINGS[weighting](maps, slopes) * maps).sum(dim=1)
    return scores


def arrangement(layer: str, module: nn.Module, output: object, faces: int) -> Callable[[Tensor], Maps]:
    """How a layer's output becomes maps `(b, channels, i, j)`, where its type or its shape is sure to say so.

    Maps of faces are square: `(b, c, n, n)` has its channels first, `(b, n, n, c)` last (Swin: Liu et al. 2021,
    arXiv:2103.14030). `(b, n, c)` are a transformer's tokens, row by row, behind a class token where n - 1 is a square
    (ViT: Dosovitskiy et al. 2020, arXiv:2010.11929).

    Args:
        layer: its name, for the error.
        module: the layer. A convolution, BatchNorm or pooling has its channels first and LayerNorm last, whatever the
            shape; what Softmax and Dropout give may be attention, which has no places.
        output: what it gave.
        faces: how many faces it was shown.

    Raises InputError where it is not sure which dimensions are places.

    """
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    last_is_channels = type(module) is nn.LayerNorm
    if len(shape) == 4 and shape[0] == faces and not isinstance(module, nn.Softmax | nn.Dropout):
        first, last = shape[2] == shape[3] != shape[1], shape[1] == shape[2] != shape[3]
        if isinstance(module, CHANNELS_FIRST) or (first and not last_is_channels):
            return lambda maps: maps
        if last or (last_is_channels and shape[1] == shape[2]):
            return lambda maps: maps.permute(0, 3, 1, 2)
    if len(shape) == 3 and shape[0] == faces and _is_grid(shape[1]) and (last_is_channels or not _is_grid(shape[2])):
        side = math.isqrt(shape[1])
        return lambda tokens: tokens[:, -(side**2) :].mT.unflatten(2, (side, side))
    raise InputError(
        f"masker.layer must give each of {faces} faces a square map (c, n, n) or (n, n, c), c other than n, or tokens "
        f"(n, c) of a square map behind at most one class token, c no such number, got "
        f"{shape or type(output).__name__} of {layer!r}; a convolution or LayerNorm is sure of its channels"
    )


def _is_grid(tokens: int) -> bool:
    """Whether so many tokens are a square, or one more. Above 2 no number is both."""
    return tokens > 2 and tokens - math.isqrt(tokens) ** 2 <= 1


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
