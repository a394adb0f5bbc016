"""Where the parts of each face are in its view, and the maskers that look at nothing else.

`protect` shares the geometry.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from veil.errors import InputError
from veil.faces.landmarks import MEAN_FACE, OPEN, REGIONS, Landmarks, Shapes, found, mean_points
from veil.types import Faces, Images, Scores, view, view_box

FINE = 4  # bits behind the binary point of a polygon's corners: OpenCV's sixteenths of a pixel


def face_points(images: Images) -> Shapes:
    """The 68 landmarks `(x, y)` of each face that dlib finds, in pixels of its view.

    A face that it does not find has the mean face's (`veil.faces.landmarks.MEAN_FACE`): crops are aligned, so every
    feature is within a few per cent of the view from there. `utility/landmarks_found` says how many faces dlib finds.
    """
    rows, columns = view_box(*images.shape[-2:])
    points = _finder()(images)
    mean = mean_points(*images.shape[-2:]).to(points)
    return torch.where(found(points)[:, None, None], points, mean) - points.new_tensor([columns.start, rows.start])


@cache
def _finder() -> Landmarks:
    return Landmarks()  # reads 100 MB


def region_distances(points: Shapes, names: Sequence[str], size: tuple[int, int]) -> Float[Tensor, "b regions h w"]:
    """Of each pixel of a view of `size`, how far outside each region it is, as a share of the view's width; negative
    inside, how far from the border.
    """
    shapes = [[_region(face, name, size) for name in names] for face in points.cpu().numpy()]
    return torch.from_numpy(np.array(shapes)).to(points.device)


def hull_distances(points: Float[Tensor, "b n 2"], size: tuple[int, int]) -> Float[Tensor, "b h w"]:
    """As `region_distances`, of the convex hull of some of the landmarks."""
    hulls = [_signed(_filled([_hull(face)], size)) for face in points.cpu().numpy()]
    return torch.from_numpy(np.array(hulls)).to(points.device)


def _region(points: Float[ndarray, "68 2"], name: str, size: tuple[int, int]) -> Float[ndarray, "h w"]:
    parts = [points[list(part)] for part in REGIONS[name]]
    if name in OPEN:
        canvas = np.zeros(size, np.uint8)
        cv2.polylines(canvas, [_fixed(part) for part in parts], False, 1, shift=FINE)
        return _signed(canvas)
    return _signed(_filled([_hull(part) for part in parts], size))


def _hull(points: Float[ndarray, "n 2"]) -> Float[ndarray, "m 2"]:
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def _filled(polygons: Sequence[ndarray], size: tuple[int, int]) -> ndarray:
    canvas = np.zeros(size, np.uint8)
    for polygon in polygons:
        cv2.fillConvexPoly(canvas, _fixed(polygon), 1, shift=FINE)
    return canvas


def _fixed(points: ndarray) -> ndarray:
    return (points * 2**FINE).round().astype(np.int32)


def _signed(inside: ndarray) -> Float[ndarray, "h w"]:
    """Euclidean distance to the nearest pixel inside, less that to the nearest outside, over the width."""
    height, width = inside.shape
    if not inside.any():  # the part lies outside the view altogether
        return np.full(inside.shape, (height**2 + width**2) ** 0.5 / width, np.float32)
    # not OpenCV's, whose last bits depend on where the array lies in memory
    outwards, inwards = distance_transform_edt(1 - inside), distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    return ((outwards - inwards) / width).astype(np.float32)


@torch.no_grad()
def landmarks(faces: Faces, recognizer: nn.Module, order: Sequence[str], margin: float = 0.05) -> Scores:
    """Features in the order given, each from its core outwards, then what is nearest to any of them: what people
    look at when they tell faces apart (brows before eyes: Sadr et al. 2003, The role of eyebrows in face recognition).

    Looks at no recogniser. Where dlib finds no face, features are where the mean face has them
    (`face_points`).

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


@torch.no_grad()
def t_zone(faces: Faces, recognizer: nn.Module) -> Scores:
    """The T of eyes with brows, nose and mouth, from its middle line outwards: where people look when they tell faces
    apart (Peterson and Eckstein 2012, Looking just below the eyes is optimal across face recognition tasks).

    The bar is the hull of brows and eyes, the stem that of nose and mouth. Looks at no recogniser. Where dlib finds no
    face, the T is the mean face's (`face_points`).
    """
    points = face_points(faces.images)
    height, width = view(faces.images).shape[-2:]
    bar = torch.cat([points[:, 17:27], points[:, 36:48]], dim=1)
    stem = torch.cat([points[:, 27:36], points[:, 48:60]], dim=1)
    distances = torch.minimum(*(hull_distances(part, (height, width)) for part in (bar, stem)))
    return -distances.to(faces.images)


SHAPES = ("ellipse", "hull", "inner")
INNER = slice(17, 60)  # landmarks from the brows to the outer lips


@torch.no_grad()
def whole_face(faces: Faces, recognizer: nn.Module, shape: str = "ellipse", aspect: float = 1.3) -> Scores:
    """An ellipse, or a hull of landmarks, that grows with the budget: the mask of classical de-identification
    (Newton et al. 2005, Preserving Privacy by De-identifying Face Images), looking at no recogniser.

    Args:
        shape: `ellipse`, upright round the middle of the mean face, the same for every face; `hull`, of each face's 68
            landmarks, which end at the brows; `inner`, the hull of brows, eyes, nose and mouth, without the jaw. Where
            dlib finds no face, the hull is the mean face's (`face_points`).
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
