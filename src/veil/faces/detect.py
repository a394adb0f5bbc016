"""Every face of a photo at its full resolution, small ones too."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from facenet_pytorch import MTCNN
from jaxtyping import Float
from numpy import ndarray

from veil.errors import InputError
from veil.faces.align import SMALLEST, Box, Found, Pixels, face_detector

Detector = Callable[[Pixels], "list[Detection]"]
SAME = 0.6  # share of the smaller of two boxes in the other, from which they are one face, where neither is far larger
LARGER = 4.0  # areas: a box so much larger is another face, in front of or behind the small one


class Detection(NamedTuple):
    """A face that a detector finds."""

    found: Found
    confidence: float  # in [0, 1]


class TiledMTCNN:
    """MTCNN (Zhang et al. 2016, arXiv:1604.02878) on the whole photo, reduced to `tile` px, and on overlapping tiles of
    it in full, so that faces are found from `smallest` px up to the whole photo, in memory that the photo's size does
    not change.

    Args:
        smallest: side in px of the smallest face, at least 20.
        tile: side in px of what the detector sees at once; at least eight of the smallest faces.
        least: confidence in [0, 1] from which a face is told.

    """

    def __init__(self, smallest: int = SMALLEST, tile: int = 1024, least: float = 0.7) -> None:
        if smallest < SMALLEST:
            raise InputError(f"detector.smallest is the side of a face in px, at least {SMALLEST}, got {smallest}")
        if tile < 8 * smallest:
            raise InputError(f"detector.tile is a side in px, at least {8 * smallest}, got {tile}")
        if not 0 < least < 1:
            raise InputError(f"detector.least is a confidence, in (0, 1), got {least}")
        self.smallest, self.tile, self.least = smallest, tile, least

    @cached_property
    def mtcnn(self) -> MTCNN:
        """Loaded when the first photo is looked at."""
        mtcnn = face_detector()
        mtcnn.min_face_size = self.smallest
        mtcnn.thresholds = [*mtcnn.thresholds[:2], self.least]
        return mtcnn

    def __call__(self, photo: Pixels) -> list[Detection]:
        """The faces, the largest first."""
        found: list[Detection] = []
        for place, scale in self._places(photo.shape[:2]):
            part = photo[place]
            if scale < 1:
                part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if min(part.shape[:2]) >= SMALLEST:  # else there is no room for a face, and MTCNN fails
                corner = np.array([place[1].start, place[0].start], np.float32)
                found += self._faces(part, scale, corner)
        return merged(found)

    def _places(self, size: tuple[int, ...]) -> Iterator[tuple[tuple[slice, slice], float]]:
        """What is looked at, and how much it is reduced: the whole, then, of a larger photo, its tiles."""
        yield (slice(0, size[0]), slice(0, size[1])), min(self.tile / max(size), 1.0)
        if max(size) > self.tile:
            for top in _starts(size[0], self.tile):
                for left in _starts(size[1], self.tile):
                    yield (slice(top, min(top + self.tile, size[0])), slice(left, min(left + self.tile, size[1]))), 1.0

    def _faces(self, part: Pixels, scale: float, corner: Float[ndarray, "2"]) -> Iterator[Detection]:
        boxes, confidences, points = self.mtcnn.detect(part, landmarks=True)
        if boxes is None:
            return
        for box, confidence, at in zip(boxes, confidences, points, strict=True):
            if confidence is not None:
                box = np.asarray(box, np.float32) / scale + np.tile(corner, 2)
                at = np.asarray(at, np.float32) / scale + corner
                yield Detection(Found(box, at), float(confidence))


def _starts(length: int, tile: int) -> list[int]:
    """Of tiles that overlap by at least a quarter, evenly spread."""
    if length <= tile:
        return [0]
    count = int(np.ceil((length - tile) / (0.75 * tile))) + 1
    return [round(start) for start in np.linspace(0, length - tile, count)]


def merged(found: Sequence[Detection]) -> list[Detection]:
    """One detection a face: of several of it, the most confident; the largest face first."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda detection: (-detection.confidence, *map(float, detection.found.box))):
        if not any(same_face(one.found.box, other.found.box) for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda detection: (-_area(detection.found.box), *map(float, detection.found.box)))


def same_face(one: Box, other: Box) -> bool:
    """Whether two boxes are of one face (`SAME`, `LARGER`)."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    areas = sorted((_area(one), _area(other)))
    return bool((sides > 0).all() and sides.prod() > SAME * areas[0] and areas[1] < LARGER * areas[0])


def _area(box: Box) -> float:
    return float(np.prod(box[2:] - box[:2]))
