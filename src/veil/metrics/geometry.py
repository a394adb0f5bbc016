"""What is left of the face's geometry, for whoever needs its expression. Arguments are taken by name:
`landmarks` and `anonymized_landmarks`, dlib's 68 points before and after, NaN where it finds no face.

A face that is not found in both has none of these figures (NaN): `utility/landmarks_found` says how often they exist.
"""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from veil.faces.landmarks import Shapes, found
from veil.metrics.measure import Measure
from veil.metrics.per_face import measured
from veil.types import Images

Opening = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
# Left, right corner; upper points; lower points below them. Sides as in the picture, iBUG 300-W's order
EYES: tuple[Opening, ...] = (((36, 39), (37, 38), (41, 40)), ((42, 45), (43, 44), (47, 46)))
MOUTH: Opening = ((60, 64), (61, 62, 63), (67, 66, 65))  # the inner lips
OUTER_CORNERS = (36, 45)  # of the eyes
NOT_FOUND = "dlib finds no face both before and after"

LANDMARK_ERROR = Measure(
    "landmark_error",
    "mean distance that landmarks moved, in distances of the outer eye corners",
    "utility",
    bounds=(0, None),
    better="lower",
    prominence=1,
    undefined=NOT_FOUND,
)

# Nose's tip, chin, outer corners of the eyes, corners of the mouth, in arbitrary units, y up and z to the camera:
# Mallick 2016, https://learnopencv.com/head-pose-estimation-using-opencv-and-dlib/
HEAD_POINTS = (30, 8, 36, 45, 48, 54)
HEAD = ((0, 0, 0), (0, -330, -65), (-225, 170, -135), (225, 170, -135), (-150, -150, -125), (150, -150, -125))


def normalized_mean_error(points: Shapes, others: Shapes) -> Float[Tensor, " b"]:
    """Mean distance between landmarks over the distance of `points`' outer eye corners (NME of iBUG 300-W; Sagonas
    et al. 2013). At least 0.
    """
    left, right = OUTER_CORNERS
    return (points - others).norm(dim=2).mean(dim=1) / (points[:, left] - points[:, right]).norm(dim=1)


def opening(points: Shapes, part: Opening) -> Float[Tensor, " b"]:
    """Mean distance of upper from lower points over that of the corners: for an eye the eye aspect ratio, about 0.3
    open, towards 0 shut (Soukupova and Cech 2016, Real-Time Eye Blink Detection using Facial Landmarks). At least 0.
    """
    (left, right), upper, lower = part
    height = (points[:, upper] - points[:, lower]).norm(dim=2).mean(dim=1)
    return height / (points[:, left] - points[:, right]).norm(dim=1)


def eye_opening(points: Shapes) -> Float[Tensor, " b"]:
    """Mean of both eyes' aspect ratios."""
    return torch.stack([opening(points, eye) for eye in EYES]).mean(dim=0)


def head_rotation(points: Float[ndarray, "68 2"], height: int, width: int) -> Float[ndarray, "3 3"]:
    """Rotation from the head's axes to the camera's, from six landmarks and a mean head.

    The camera is unknown: focal length `width`, centred. Globally optimal SQPnP (Terzakis and Lourakis 2020) refined
    by Levenberg and Marquardt; OpenCV's default starts linearly and, on points moved by 3 px, put a fifth of the heads
    behind the camera.
    """
    camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float64)
    head, seen = np.array(HEAD, np.float64), points[list(HEAD_POINTS)]
    _, rotation, shift = cv2.solvePnP(head, seen, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    rotation, _ = cv2.solvePnPRefineLM(head, seen, camera, None, rotation, shift)
    return cv2.Rodrigues(rotation)[0]


def rotation_angle(first: Float[ndarray, "3 3"], second: Float[ndarray, "3 3"]) -> float:
    """Degrees in [0, 180] of the rotation between two: |R1 - R2| = sqrt(8) sin(angle / 2) (Huynh 2009), which unlike
    the arc cosine of the trace is exact near 0.
    """
    return math.degrees(2 * math.asin(min(1.0, float(np.linalg.norm(first - second)) / 8**0.5)))


def turned(points: Shapes, others: Shapes, height: int, width: int) -> Float[Tensor, " b"]:
    """Degrees between the head's rotations; NaN where either is not known."""
    degrees = torch.full((len(points),), torch.nan, dtype=torch.float64)
    for index in (found(points) & found(others)).nonzero().flatten().tolist():
        pair = (head_rotation(part[index].double().cpu().numpy(), height, width) for part in (points, others))
        degrees[index] = rotation_angle(*pair)
    return degrees.to(points.device)


@measured(
    Measure(
        "landmarks_found",
        "dlib finds the face, and so its 68 landmarks, before and after",
        "utility",
        "share",
        (0, 1),
        better="higher",
        event=True,
    )
)
def landmarks_found(landmarks: Shapes, anonymized_landmarks: Shapes) -> Float[Tensor, " b"]:
    """1 where the landmarks are found before and after: the faces that the other figures are of."""
    return (found(landmarks) & found(anonymized_landmarks)).double()


@measured(LANDMARK_ERROR)
def landmark_error(landmarks: Shapes, anonymized_landmarks: Shapes) -> Float[Tensor, " b"]:
    """`normalized_mean_error` from before to after."""
    return normalized_mean_error(landmarks, anonymized_landmarks)


@measured(
    Measure(
        "eye_opening_difference",
        "difference of the eyes' height over width, about 0.3 for an open eye",
        "utility",
        bounds=(0, None),
        better="lower",
        undefined=NOT_FOUND,
    )
)
def eye_opening_difference(landmarks: Shapes, anonymized_landmarks: Shapes) -> Float[Tensor, " b"]:
    """Absolute difference of the eyes' mean aspect ratio."""
    return (eye_opening(landmarks) - eye_opening(anonymized_landmarks)).abs()


@measured(
    Measure(
        "mouth_opening_difference",
        "difference of the inner lips' height over width",
        "utility",
        bounds=(0, None),
        better="lower",
        undefined=NOT_FOUND,
    )
)
def mouth_opening_difference(landmarks: Shapes, anonymized_landmarks: Shapes) -> Float[Tensor, " b"]:
    """Absolute difference of the inner lips' aspect ratio."""
    return (opening(landmarks, MOUTH) - opening(anonymized_landmarks, MOUTH)).abs()


@measured(
    Measure(
        "pose_difference",
        "angle by which the head turned",
        "utility",
        "degrees",
        (0, 180),
        better="lower",
        undefined=NOT_FOUND,
    )
)
def pose_difference(images: Images, landmarks: Shapes, anonymized_landmarks: Shapes) -> Float[Tensor, " b"]:
    """`turned` from before to after, in degrees."""
    return turned(landmarks, anonymized_landmarks, *images.shape[-2:])
