"""Named features of the face, one after the other."""

from collections.abc import Sequence

import torch
from torch import nn

from veil.errors import InputError
from veil.faces.regions import REGIONS
from veil.maskers.anatomy import face_points, region_distances
from veil.types import Faces, Scores, view


@torch.no_grad()
def landmarks(faces: Faces, recognizer: nn.Module, order: Sequence[str], margin: float = 0.05) -> Scores:
    """Features in the order given, each from its core outwards, then what is nearest to any of them: what people
    look at when they tell faces apart (brows before eyes: Sadr et al. 2003, The role of eyebrows in face recognition).

    Looks at no recogniser. Where dlib finds no face, features are where the mean face has them
    (`veil.maskers.anatomy.face_points`).

    Args:
        order: some of eyes, brows, nose, mouth, jaw, the first masked first.
        margin: how far a feature reaches beyond its landmarks, as a share of the view's width.

    """
    if not order or len(set(order)) < len(order) or not set(order) <= set(REGIONS):
        raise InputError(f"masker.order must list some of {list(REGIONS)}, each once, got {list(order)}")
    if not 0 <= margin < 0.5:
        raise InputError(f"masker.margin is a share of the view's width, in [0, 0.5), got {margin}")
    height, width = view(faces.images).shape[-2:]
    distances = region_distances(face_points(faces.images), list(order), (height, width))
    scores = -distances.amin(dim=1)  # outside of every feature: at most 0
    for place, distance in reversed(list(enumerate(distances.unbind(dim=1)))):
        # at least 1 within a feature, and less than 1 more at its core: no core precedes an earlier feature
        scores = torch.where(distance <= margin, len(order) - place + (margin - distance) / 2, scores)
    return scores.to(faces.images)
