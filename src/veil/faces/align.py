"""From photos to aligned crops: find the face and its landmarks, take a square round it with context."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from facenet_pytorch import MTCNN
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from veil.types import CROP, FIELD, VIEW

Pixels = UInt8[ndarray, "h w 3"]
Box = Float[ndarray, "4"]  # left, top, right, bottom in pixels
# (x, y) in pixels: left eye, right eye, nose, left and right corner of the mouth; left as the picture has it
Points = Float[ndarray, "5 2"]

SMALLEST, LARGEST = 20, 2048  # px: MTCNN's smallest face; longer side of what it is shown, which bounds its memory
BESIDE, OTHERS = 1 / 3, 3  # side of a face that may be meant beside the main one, as a share of its side; how many
CENTRE_WEIGHT = 2.0  # facenet-pytorch's: box area minus this times the squared offset from the photo's centre

# Mean geometry of LFW's faces, as shares of the field's side; the field is the square that inpainters repaint.
EYES, REACH = 0.41, 0.28  # height of the eyes, distance from eyes to mouth
# Eyes to mouth over eye to eye: in profile the eyes move together, so the larger of the two gives the scale.
WIDE = 1.02
MARGIN = 1.1  # side of the view over the longer side of MTCNN's box, where its landmarks cannot be right
OUTSIDE = 0.1  # of the box's sides: how far outside it a landmark may lie


class Found(NamedTuple):
    """A face of a photo."""

    box: Box
    points: Points


class Square(NamedTuple):
    """Where a crop lies in its photo."""

    centre: Float[ndarray, "2"]  # (x, y) in pixels, from the photo's outer edge
    side: float  # px
    down: Float[ndarray, "2"]  # unit vector from forehead to chin


def face_detector() -> MTCNN:
    """MTCNN in double precision. It cuts off its boxes between its three networks: in single precision the last bits of
    a sum, which vary with the threads and the processor, move a box by a pixel now and then.
    """
    return MTCNN(device="cpu").double()


def find_faces(photos: Sequence[Pixels], detector: MTCNN) -> list[Found | None]:
    """The main face of each photo: the largest box near the centre, `None` where MTCNN finds no face."""
    return [faces[0] if faces else None for faces in every_face(photos, detector)]


def every_face(photos: Sequence[Pixels], detector: MTCNN) -> list[list[Found]]:
    """The faces of each photo that may be meant: the main one, then at most `OTHERS` whose landmarks are plausible and
    whose boxes are not small beside its box, the largest first.

    Photos of one size go through the detector in one batch, those above `LARGEST` reduced.
    """
    found: list[list[Found]] = [[] for _ in photos]
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, photo in enumerate(photos):
        by_size.setdefault(photo.shape, []).append(index)
    for (height, width, _), indices in by_size.items():
        scale = min(LARGEST / max(height, width), 1)
        if min(height, width) * scale < SMALLEST:
            continue  # no room for a face, and MTCNN fails
        shown = [photos[index] if scale == 1 else _reduced(photos[index], scale) for index in indices]
        candidates, _, landmarks = detector.detect(shown, landmarks=True)
        for index, boxes, points in zip(indices, candidates, landmarks, strict=True):
            if boxes is not None:
                every = np.asarray(boxes, np.float32) / scale  # not a double's last bits, which vary
                faces = [Found(box, np.asarray(at, np.float32) / scale) for box, at in zip(every, points, strict=True)]
                main = faces.pop(_main_face(every, photos[index].shape))
                found[index] = [main, *_others(main, faces)]
    return found


def _others(main: Found, faces: Sequence[Found]) -> list[Found]:
    least = BESIDE**2 * _area(main.box)
    others = [face for face in faces if _area(face.box) >= least and plausible(face)]
    return sorted(others, key=lambda face: -_area(face.box))[:OTHERS]


def _area(box: Box) -> float:
    return float(np.prod(box[2:] - box[:2]))


def _reduced(photo: Pixels, scale: float) -> Pixels:
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _main_face(boxes: Float[ndarray, "n 4"], shape: tuple[int, ...]) -> int:
    sizes = boxes[:, 2:] - boxes[:, :2]
    offsets = (boxes[:, 2:] + boxes[:, :2]) / 2 - np.array([shape[1], shape[0]]) / 2
    return int(np.argmax(sizes.prod(axis=1) - CENTRE_WEIGHT * (offsets**2).sum(axis=1)))


def plausible(face: Found) -> bool:
    """Whether the landmarks can be a face's: eyes above the mouth, left of right, all in the box or just outside it."""
    (left, top, right, bottom), points = face.box, face.points
    room = OUTSIDE * np.array([right - left, bottom - top])
    inside = (points >= face.box[:2] - room).all() and (points <= face.box[2:] + room).all()
    across, down = points[1] - points[0], points[3:].mean(axis=0) - points[:2].mean(axis=0)
    return bool(inside and down[1] > 0 and across[0] * down[1] > across[1] * down[0])


def crop_square(face: Found) -> Square:
    """Where the crop of a face lies: by its landmarks, or by its box where they are not `plausible`.

    By landmarks the eyes lie at `EYES` of the field's height and the mouth at most `REACH` of its side below them, and
    the crop is turned so that the face stands upright.
    """
    if not plausible(face):
        left, top, right, bottom = face.box
        side = max(right - left, bottom - top) * MARGIN / VIEW
        return Square(np.array([left + right, top + bottom]) / 2, side, np.array([0.0, 1.0]))
    eyes, mouth = face.points[:2].mean(axis=0), face.points[3:].mean(axis=0)
    reach = np.linalg.norm(mouth - eyes)
    field = float(max(reach, WIDE * np.linalg.norm(face.points[1] - face.points[0])) / REACH)
    down = (mouth - eyes) / reach
    return Square(eyes + down * (0.5 - EYES) * field, field / FIELD, down)


def crop_face(photo: Pixels, face: Found) -> UInt8[ndarray, "crop crop 3"]:
    """The crop of a face. Outside the photo its nearest pixel is repeated."""
    inverse = to_photo(crop_square(face))
    scale = float(np.hypot(*inverse[:, 0]))  # px of the photo a px of the crop
    if scale > 1:  # a large photo: blur away what the smaller grid cannot hold
        photo = cv2.GaussianBlur(photo, (0, 0), sigmaX=0.5 * (scale**2 - 1) ** 0.5 + 1e-6)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    return cv2.warpAffine(photo, inverse, (CROP, CROP), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def paste_face(
    photo: Pixels, face: Found, crop: UInt8[ndarray, "crop crop 3"], mask: Bool[ndarray, "crop crop"]
) -> Pixels:
    """The photo with what lies under the mask of its crop taken from `crop`; every other pixel stays as it is.

    A pixel of the photo that the mask covers in part is replaced.
    """
    forward, size = to_photo(crop_square(face)), photo.shape[1::-1]
    scale = float(np.hypot(*forward[:, 0]))
    shade = mask.astype(np.float32)
    if scale < 1:  # a small photo: blur away what it cannot hold
        sigma = 0.5 * (1 / scale**2 - 1) ** 0.5 + 1e-6
        crop = cv2.GaussianBlur(crop, (0, 0), sigmaX=sigma)
        shade = cv2.GaussianBlur(shade, (0, 0), sigmaX=sigma).astype(np.float32)
    warped = cv2.warpAffine(crop, forward, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.warpAffine(shade, forward, size, flags=cv2.INTER_LINEAR) > 0.01
    return np.where(covered[..., None], warped, photo)


def to_photo(square: Square) -> Float[ndarray, "2 3"]:
    """The affine map from pixel centres of the crop to pixel centres of the photo."""
    across = np.array([square.down[1], -square.down[0]])
    turn = square.side / CROP * np.stack([across, square.down], axis=1)
    shift = square.centre - turn @ np.full(2, CROP / 2)  # of outer edges
    return np.hstack([turn, (shift + turn @ np.full(2, 0.5) - 0.5)[:, None]])
