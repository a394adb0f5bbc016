"""What no mask may touch, whichever masker draws it: the knob `protect`."""

import math
from collections.abc import Sequence

import torch

from veil.maskers.anatomy import face_points, region_distances
from veil.types import Images, Masks, view

Part = str | Sequence[float]  # a feature's name, or a box: left, top, right, bottom as shares of the view, in [0, 1]


@torch.no_grad()
def protected(images: Images, parts: Sequence[Part]) -> Masks:
    """True where `budget` may not mask: features by name (`veil.faces.landmarks`), boxes by their edges.

    Features are found in each face; where dlib finds none, they are where the mean face has them
    (`veil.maskers.anatomy.face_points`). `protect=[mouth,[0.4,0,0.6,0.2]]` spares the lips and a piece of the forehead.
    """
    masks = torch.zeros(len(images), 1, *images.shape[-2:], dtype=torch.bool, device=images.device)
    height, width = view(images).shape[-2:]
    for left, top, right, bottom in (part for part in parts if not isinstance(part, str)):
        view(masks)[..., _between(top, bottom, height), _between(left, right, width)] = True
    names = [part for part in parts if isinstance(part, str)]
    if names:
        distances = region_distances(face_points(images), names, (height, width))
        view(masks).logical_or_((distances <= 0).any(dim=1, keepdim=True))
    return masks


def _between(start: float, stop: float, pixels: int) -> slice:
    """Every pixel that the interval touches; to a millionth, lest 0.55 * 160 be more than 88."""
    return slice(math.floor(round(start * pixels, 6)), math.ceil(round(stop * pixels, 6)))
