"""From photos to aligned crops: find the face, take a square round it with context."""

from collections.abc import Sequence

import cv2
import numpy as np
from facenet_pytorch import MTCNN
from jaxtyping import Float, UInt8
from numpy import ndarray

from veil.types import CROP, VIEW

Photo = UInt8[ndarray, "h w 3"]
Box = Float[ndarray, "4"]  # left, top, right, bottom in pixels

MARGIN = 1.1  # side of the view over the longer side of MTCNN's box: best TAR@FAR=1e-3 of 1.0 to 1.3 on AT&T and LFW
ALIGNMENT = b"mtcnn64-1.1-256"  # names a way to align; crops made another way are not found again
SMALLEST, LARGEST = 20, 2048  # px: MTCNN's smallest face; longer side of what it is shown, which bounds its memory
CENTRE_WEIGHT = 2.0  # facenet-pytorch's: box area minus this times the squared offset from the photo's centre


def face_detector() -> MTCNN:
    """MTCNN in double precision. It cuts off its boxes between its three networks: in single precision the last bits of
    a sum, which vary with the threads and the processor, move a box by a pixel now and then.
    """
    return MTCNN(device="cpu").double()


def find_faces(photos: Sequence[Photo], detector: MTCNN) -> list[Box | None]:
    """The main face of each photo: the largest box near the centre, `None` where MTCNN finds no face.

    Photos of one size go through the detector in one batch, those above `LARGEST` reduced.
    """
    found: list[Box | None] = [None] * len(photos)
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, photo in enumerate(photos):
        by_size.setdefault(photo.shape, []).append(index)
    for (height, width, _), indices in by_size.items():
        scale = min(LARGEST / max(height, width), 1)
        if min(height, width) * scale < SMALLEST:
            continue  # no room for a face, and MTCNN fails
        shown = [photos[index] if scale == 1 else _reduced(photos[index], scale) for index in indices]
        candidates, _ = detector.detect(shown)
        for index, boxes in zip(indices, candidates, strict=True):
            if boxes is not None:
                found[index] = _main_face(np.asarray(boxes, np.float32) / scale, photos[index].shape)
    return found


def _reduced(photo: Photo, scale: float) -> Photo:
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _main_face(boxes: Float[ndarray, "n 4"], shape: tuple[int, ...]) -> Box:
    sizes = boxes[:, 2:] - boxes[:, :2]
    offsets = (boxes[:, 2:] + boxes[:, :2]) / 2 - np.array([shape[1], shape[0]], np.float32) / 2
    return boxes[np.argmax(sizes.prod(axis=1) - CENTRE_WEIGHT * (offsets**2).sum(axis=1))]


def crop_face(photo: Photo, box: Box) -> UInt8[ndarray, "crop crop 3"]:
    """A square crop whose view (`veil.types.view`) is `MARGIN` x the longer side of `box`, centred on it.

    Outside the photo the nearest pixel is repeated.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    side = max(right - left, bottom - top) * MARGIN / VIEW
    scale = CROP / side
    corner_x, corner_y = (left + right - side) / 2, (top + bottom - side) / 2
    # pixel centres: crop pixel u shows photo coordinate corner + (u + 0.5) / scale - 0.5
    inverse = np.array([[1 / scale, 0, corner_x + 0.5 / scale - 0.5], [0, 1 / scale, corner_y + 0.5 / scale - 0.5]])
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    if scale < 1:  # a large photo: blur away what the smaller grid cannot hold
        photo = cv2.GaussianBlur(photo, (0, 0), sigmaX=0.5 * (1 / scale**2 - 1) ** 0.5 + 1e-6)
    return cv2.warpAffine(photo, inverse, (CROP, CROP), flags=flags, borderMode=cv2.BORDER_REPLICATE)
