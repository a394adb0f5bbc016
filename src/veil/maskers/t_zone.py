"""The T of brows, eyes, nose and mouth."""

import torch
from torch import nn

from veil.maskers.anatomy import face_points, hull_distances
from veil.types import Faces, Scores, view


@torch.no_grad()
def t_zone(faces: Faces, recognizer: nn.Module) -> Scores:
    """The T of eyes with brows, nose and mouth, from its middle line outwards: where people look when they tell faces
    apart (Peterson and Eckstein 2012, Looking just below the eyes is optimal across face recognition tasks).

    The bar is the hull of brows and eyes, the stem that of nose and mouth. Looks at no recogniser. Where dlib finds no
    face, the T is the mean face's (`veil.maskers.anatomy.face_points`).
    """
    points = face_points(faces.images)
    height, width = view(faces.images).shape[-2:]
    bar = torch.cat([points[:, 17:27], points[:, 36:48]], dim=1)
    stem = torch.cat([points[:, 27:36], points[:, 48:60]], dim=1)
    distances = torch.minimum(*(hull_distances(part, (height, width)) for part in (bar, stem)))
    return -distances.to(faces.images)
