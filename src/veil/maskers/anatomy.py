"""Where the parts of each face are in its view: geometry that the anatomical maskers and `protect` share."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from veil.faces.landmarks import Landmarks, Shapes, found
from veil.faces.regions import MEAN_FACE, OPEN, REGIONS
from veil.types import Images, view_box

FINE = 4  # bits behind the binary point of a polygon's corners: OpenCV's sixteenths of a pixel


def face_points(images: Images) -> Shapes:
    """The 68 landmarks `(x, y)` of each face that dlib finds, in pixels of its view.

    A face that it does not find has the mean face's (`veil.faces.regions.MEAN_FACE`): crops are aligned, so every
    feature is within a few per cent of the view from there. `utility/landmarks_found` says how many faces dlib finds.
    """
    rows, columns = view_box(*images.shape[-2:])
    points = _finder()(images)
    origin = points.new_tensor([columns.start, rows.start])
    side = points.new_tensor([columns.stop - columns.start, rows.stop - rows.start])
    mean = points.new_tensor(MEAN_FACE) * side - 0.5  # from shares, between edges, to centres of pixels
    return torch.where(found(points)[:, None, None], points - origin, mean)


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
