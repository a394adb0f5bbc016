"""Landmark figures by hand, on turned heads whose turn is known, and on real photos."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from veil.data.faces import enrol
from veil.data.folder import folder
from veil.faces.landmarks import POINTS, Landmarks, LandmarkVectors, found
from veil.metrics.geometry import (
    EYES,
    HEAD,
    HEAD_POINTS,
    MOUTH,
    eye_opening,
    eye_opening_difference,
    head_rotation,
    landmark_error,
    landmarks_found,
    mouth_opening_difference,
    normalized_mean_error,
    opening,
    pose_difference,
    rotation_angle,
    turned,
)
from veil.metrics.per_face import PerFace
from veil.storage.progress import Stages
from veil.types import Images

SIZE = 256


def shape(**moved: tuple[float, float]) -> torch.Tensor:
    """A face drawn by hand: eyes 3 wide and 1 open, inner lips 4 wide and 1 open, outer eye corners 10 apart."""
    points = torch.zeros(1, 68, 2, dtype=torch.float64)
    drawn = {36: (0, 0), 37: (1, -0.5), 38: (2, -0.5), 39: (3, 0), 40: (2, 0.5), 41: (1, 0.5)}
    drawn |= {index + 6: (x + 7, y) for index, (x, y) in drawn.items()}
    drawn |= {
        60: (3, 8),
        61: (4, 7.5),
        62: (5, 7.5),
        63: (6, 7.5),
        64: (7, 8),
        65: (6, 8.5),
        66: (5, 8.5),
        67: (4, 8.5),
    }
    for index, place in (drawn | {int(name[1:]): place for name, place in moved.items()}).items():
        points[0, index] = torch.tensor(place, dtype=torch.float64)
    return points


def similar(points: torch.Tensor, degrees: float, scale: float) -> torch.Tensor:
    turn = torch.from_numpy(Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2])
    return scale * points @ turn.T + torch.tensor([40.0, 70.0])


def head(yaw: float, pitch: float, roll: float) -> torch.Tensor:
    """The landmarks of the 3-D head, turned by known angles, as a camera of focal length `SIZE` sees them."""
    turn = Rotation.from_euler("x", 180, degrees=True) * Rotation.from_euler("yxz", [yaw, pitch, roll], degrees=True)
    camera = np.array([[SIZE, 0, SIZE / 2], [0, SIZE, SIZE / 2], [0, 0, 1]], float)
    seen, _ = cv2.projectPoints(np.array(HEAD, float), turn.as_rotvec(), np.array([0, 0, 1200.0]), camera, None)
    points = torch.zeros(1, 68, 2, dtype=torch.float64)
    points[0, list(HEAD_POINTS)] = torch.from_numpy(seen[:, 0])
    return points


def test_landmark_error_by_hand() -> None:
    clear = shape()
    assert normalized_mean_error(clear, clear + torch.tensor([3.0, 4.0])).item() == pytest.approx(5 / 10)
    one = clear.clone()
    one[0, 20] += torch.tensor([6.8, 0.0])
    assert normalized_mean_error(clear, one).item() == pytest.approx(6.8 / 68 / 10)
    for degrees, scale in ((30, 1.0), (-75, 0.3), (10, 4.0)):  # the same change in another pose is the same error
        pair = (similar(points, degrees, scale) for points in (clear, one))
        assert normalized_mean_error(*pair).item() == pytest.approx(6.8 / 68 / 10)


def test_openings_by_hand() -> None:
    face = shape()
    assert [opening(face, part).item() for part in (*EYES, MOUTH)] == pytest.approx([1 / 3, 1 / 3, 1 / 4])
    tilted = similar(face, 25, 2.5)
    assert eye_opening(tilted).item() == pytest.approx(1 / 3)
    assert opening(tilted, MOUTH).item() == pytest.approx(1 / 4)
    wink = shape(p37=(1, 0), p38=(2, 0), p40=(2, 0), p41=(1, 0))
    assert eye_opening(wink).item() == pytest.approx(1 / 6)
    evidence = {"landmarks": face, "anonymized_landmarks": wink}
    assert eye_opening_difference(**evidence).item() == pytest.approx(1 / 6)
    assert mouth_opening_difference(**evidence).item() == 0
    wide = shape(p65=(6, 10.5), p66=(5, 10.5), p67=(4, 10.5))
    for pair in ((face, wide), (wide, face)):
        assert mouth_opening_difference(*pair).item() == pytest.approx(3 / 4 - 1 / 4)


@pytest.mark.parametrize("turn", [(0, 0, 0), (30, 0, 0), (0, -20, 0), (0, 0, 45), (-25, 15, 10)])
def test_pose_is_the_turn_that_was_made(turn: tuple[float, float, float]) -> None:
    straight, after = head(0, 0, 0), head(*turn)
    expected = np.degrees(Rotation.from_euler("yxz", turn, degrees=True).magnitude())
    assert turned(straight, after, SIZE, SIZE).item() == pytest.approx(expected, abs=1e-3)
    assert turned(after, after, SIZE, SIZE).item() == 0


def test_vectors_of_landmarks_are_the_landmarks(photos: Path, cache: str) -> None:
    enrolment = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    images = torch.cat([enrolment.probes[0].images, torch.zeros(1, 3, 256, 256)])
    expected = Landmarks()(images)
    assert found(expected).tolist() == [True, False]
    torch.testing.assert_close(LandmarkVectors()(images).unflatten(1, (POINTS, 2)), expected, equal_nan=True)


def test_a_head_stays_before_the_camera_when_its_landmarks_are_moved() -> None:
    noise = 3 * torch.randn(60, 68, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles = turned(head(0, 0, 0).expand(60, -1, -1), head(0, 0, 0) + noise, SIZE, SIZE)
    assert angles.max() < 60


def test_rotation_angle_equals_scipy() -> None:
    turns = Rotation.random(20, rng=np.random.default_rng(0))
    for first, second in zip(turns[:10], turns[10:], strict=True):
        expected = np.degrees((first.inv() * second).magnitude())
        assert rotation_angle(first.as_matrix(), second.as_matrix()) == pytest.approx(expected)


def test_a_face_not_found_has_no_figures() -> None:
    face, lost = head(0, 0, 0) + shape(), torch.full((1, 68, 2), torch.nan, dtype=torch.float64)
    evidence = {
        "landmarks": torch.cat([face, face, lost]),
        "anonymized_landmarks": torch.cat([face, lost, face]),
        "identities": torch.tensor([0, 1, 2]),
    }
    share = PerFace(landmarks_found)
    share.update(**evidence)
    assert share.compute().value == pytest.approx(1 / 3)
    for metric in map(PerFace, (landmark_error, eye_opening_difference, mouth_opening_difference)):
        metric.update(**evidence)
        assert (metric.compute().value, metric.compute().n) == (0, 1)
    pose = PerFace(pose_difference)
    pose.update(images=torch.zeros(3, 3, SIZE, SIZE), **evidence)
    assert (pose.compute().value, pose.compute().n) == (0, 1)
    gone = PerFace(pose_difference)
    gone.update(torch.tensor([0]), images=torch.zeros(1, 3, SIZE, SIZE), landmarks=face, anonymized_landmarks=lost)
    assert gone.compute() is None
    assert "no face" in gone.measure.undefined


@pytest.fixture(scope="module")
def crops(photos: Path, cache: str) -> Images:
    (batch,) = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes.loader(64)
    return batch.images


@pytest.fixture(scope="module")
def finder() -> Landmarks:
    return Landmarks()


def test_real_photos_have_landmarks_where_they_belong(finder: Landmarks, crops: Images) -> None:
    points = finder(crops)
    assert found(points).all()
    eyes, nose, mouth, chin = points[:, 36:48, 1].mean(1), points[:, 30, 1], points[:, 48:, 1].mean(1), points[:, 8, 1]
    assert ((eyes < nose) & (nose < mouth) & (mouth < chin)).all()
    assert (points[:, 36, 0] < points[:, 45, 0]).all()
    assert torch.equal(finder(crops[2:3])[0], points[2])
    assert not found(finder(torch.full_like(crops[:1], 0.5))).any()


def test_the_same_photo_has_no_difference_and_its_mirror_turns_the_other_way(finder: Landmarks, crops: Images) -> None:
    points = finder(crops)
    for measure in (landmark_error, eye_opening_difference, mouth_opening_difference):
        assert measure(points, points).abs().max() == 0
    assert turned(points, points, SIZE, SIZE).abs().max() == 0
    yaws = []
    for part in (points, finder(crops.flip(-1))):
        rotations = [Rotation.from_matrix(head_rotation(face.numpy(), SIZE, SIZE)) for face in part]
        upright = Rotation.from_euler("x", 180, degrees=True)
        yaws.append(np.array([(upright * turn).as_euler("yxz", degrees=True)[0] for turn in rotations]))
    assert np.abs(yaws[0] + yaws[1]).mean() < 4
    sideways = np.abs(yaws[0]) > 8
    assert sideways.sum() >= 3
    assert (np.sign(yaws[0]) == -np.sign(yaws[1]))[sideways].all()
