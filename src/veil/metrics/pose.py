"""By how much the head turned, from landmarks. Arguments as in `geometry.py`."""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from veil.landmarks import Shapes, found
from veil.metrics.geometry import NOT_FOUND
from veil.metrics.intervals import PeopleMean
from veil.types import Identities, Images

# Nose's tip, chin, outer corners of the eyes, corners of the mouth, in arbitrary units, y up and z to the camera:
# Mallick 2016, https://learnopencv.com/head-pose-estimation-using-opencv-and-dlib/
HEAD_POINTS = (30, 8, 36, 45, 48, 54)
HEAD = ((0, 0, 0), (0, -330, -65), (-225, 170, -135), (225, 170, -135), (-150, -150, -125), (150, -150, -125))


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


def pose_difference(points: Shapes, others: Shapes, height: int, width: int) -> Float[Tensor, " b"]:
    """Degrees between the head's rotations; NaN where either is not known."""
    degrees = torch.full((len(points),), torch.nan, dtype=torch.float64)
    for index in (found(points) & found(others)).nonzero().flatten().tolist():
        pair = (head_rotation(part[index].double().cpu().numpy(), height, width) for part in (points, others))
        degrees[index] = rotation_angle(*pair)
    return degrees.to(points.device)


class PoseDifference(PeopleMean):
    """Degrees by which the head turned."""

    undefined = NOT_FOUND

    def update(self, images: Images, landmarks: Shapes, anonymized_landmarks: Shapes, identities: Identities) -> None:
        """See the module."""
        self.add(pose_difference(landmarks, anonymized_landmarks, *images.shape[-2:]), identities)
