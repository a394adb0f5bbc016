"""What is left of the face's geometry, for whoever needs its expression. Arguments are taken by name:
`landmarks` and `anonymized_landmarks`, dlib's 68 points before and after, NaN where it finds no face.

A face that is not found in both has none of these figures: `utility/landmarks_found` says how often they exist.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from veil.landmarks import Shapes, found
from veil.metrics.intervals import PeopleMean
from veil.types import Identities

Opening = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
# Left, right corner; upper points; lower points below them. Sides as in the picture, iBUG 300-W's order
EYES: tuple[Opening, ...] = (((36, 39), (37, 38), (41, 40)), ((42, 45), (43, 44), (47, 46)))
MOUTH: Opening = ((60, 64), (61, 62, 63), (67, 66, 65))  # the inner lips
OUTER_CORNERS = (36, 45)  # of the eyes
NOT_FOUND = "dlib finds no face both before and after"


def landmark_error(points: Shapes, others: Shapes) -> Float[Tensor, " b"]:
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


class LandmarksFound(PeopleMean):
    """Share of faces whose landmarks are found before and after: those that the other figures are of."""

    def update(self, landmarks: Shapes, anonymized_landmarks: Shapes, identities: Identities) -> None:
        """See the module."""
        self.add((found(landmarks) & found(anonymized_landmarks)).double(), identities)


class LandmarkError(PeopleMean):
    """Mean distance that landmarks moved, in distances of the clear outer eye corners."""

    undefined = NOT_FOUND

    def update(self, landmarks: Shapes, anonymized_landmarks: Shapes, identities: Identities) -> None:
        """See the module."""
        self.add(landmark_error(landmarks, anonymized_landmarks), identities)


class EyeOpeningDifference(PeopleMean):
    """Absolute difference of the eyes' mean aspect ratio."""

    undefined = NOT_FOUND

    def update(self, landmarks: Shapes, anonymized_landmarks: Shapes, identities: Identities) -> None:
        """See the module."""
        self.add((eye_opening(landmarks) - eye_opening(anonymized_landmarks)).abs(), identities)


class MouthOpeningDifference(PeopleMean):
    """Absolute difference of the inner lips' aspect ratio."""

    undefined = NOT_FOUND

    def update(self, landmarks: Shapes, anonymized_landmarks: Shapes, identities: Identities) -> None:
        """See the module."""
        self.add((opening(landmarks, MOUTH) - opening(anonymized_landmarks, MOUTH)).abs(), identities)
