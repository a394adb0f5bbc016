"""The face, from its middle outwards."""

import torch
from torch import Tensor, nn

from veil.errors import InputError
from veil.faces.regions import MEAN_FACE
from veil.maskers.anatomy import face_points, hull_distances
from veil.types import Faces, Scores, view

SHAPES = ("ellipse", "hull", "inner")
INNER = slice(17, 60)  # landmarks from the brows to the outer lips


@torch.no_grad()
def whole_face(faces: Faces, recognizer: nn.Module, shape: str = "ellipse", aspect: float = 1.3) -> Scores:
    """An ellipse, or a hull of landmarks, that grows with the budget: the mask of classical de-identification
    (Newton et al. 2005, Preserving Privacy by De-identifying Face Images), looking at no recogniser.

    Args:
        shape: `ellipse`, upright round the middle of the mean face, the same for every face; `hull`, of each face's 68
            landmarks, which end at the brows; `inner`, the hull of brows, eyes, nose and mouth, without the jaw. Where
            dlib finds no face, the hull is the mean face's (`veil.maskers.anatomy.face_points`).
        aspect: height of the ellipse over its width.

    """
    if shape not in SHAPES:
        raise InputError(f"masker.shape must be one of {SHAPES}, got {shape!r}")
    if aspect <= 0:
        raise InputError(f"masker.aspect, height over width, must be above 0, got {aspect}")
    height, width = view(faces.images).shape[-2:]
    if shape != "ellipse":
        points = face_points(faces.images)[:, INNER if shape == "inner" else slice(None)]
        return -hull_distances(points, (height, width)).to(faces.images)
    return -_radius(height, width, aspect).expand(len(faces.images), -1, -1).to(faces.images)


def _radius(height: int, width: int, aspect: float) -> Tensor:
    """Of each pixel, the half width, as a share of the view's, of the ellipse on which it lies."""
    middle = torch.tensor(MEAN_FACE).mean(dim=0)
    x = (torch.arange(width) + 0.5) / width - middle[0]
    y = (torch.arange(height) + 0.5) / height - middle[1]
    return torch.hypot(x, y[:, None] / aspect)
