"""Parts of the face are where they belong, on real photos and where dlib finds no face; what is kept is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from veil.data.faces import enrol
from veil.data.folder import folder
from veil.errors import InputError
from veil.faces.landmarks import MEAN_FACE, REGIONS, Landmarks, found
from veil.maskers.anatomy import face_points, hull_distances, landmarks, region_distances, t_zone, whole_face
from veil.maskers.budget import budget
from veil.maskers.protect import protected
from veil.storage.progress import Stages
from veil.types import Faces, Images, view

NOBODY = nn.Identity()  # these maskers look at no recogniser


@pytest.fixture(scope="module")
def crops(photos: Path, cache: str) -> Faces:
    return next(iter(enrol(folder(str(photos)), 0.6, 0, cache, Stages()).probes.loader(4)))


@pytest.fixture
def blank() -> Faces:
    """Two pictures without a face."""
    return Faces(torch.full((2, 3, 256, 256), 0.5), torch.tensor([0, 1]), torch.tensor([1, 2]), ("a", "b"))


def inside(points: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Of each landmark, whether its pixel of the view is masked."""
    x, y = points.round().long().unbind(dim=-1)
    return view(masks)[torch.arange(len(masks))[:, None], 0, y, x]


def test_landmarks_are_in_pixels_of_the_view(crops: Faces) -> None:
    points = face_points(crops.images)
    torch.testing.assert_close(points + 48, Landmarks()(crops.images))  # the view of 256 px starts at 48


def test_a_face_that_is_not_found_has_the_mean_faces_points(blank: Faces, crops: Faces) -> None:
    assert not found(Landmarks()(blank.images)).any()
    points = face_points(torch.cat([crops.images[:1], blank.images]))
    mean = torch.tensor(MEAN_FACE, dtype=torch.float64) * 160 - 0.5
    torch.testing.assert_close(points[1:], mean.expand(2, -1, -1))
    assert (points[0] - mean).norm(dim=1).mean() < 0.08 * 160  # and real faces are near it
    assert len(MEAN_FACE) == 68


@pytest.mark.parametrize("shown", ["crops", "blank"])
def test_each_feature_is_masked_first_where_it_comes_first(shown: str, request: pytest.FixtureRequest) -> None:
    faces: Faces = request.getfixturevalue(shown)
    points = face_points(faces.images)
    for name in REGIONS:
        order = [name, *(other for other in REGIONS if other != name)]
        masks = budget(landmarks(faces, NOBODY, order), 0.15, None, (256, 256))
        index = [point for part in REGIONS[name] for point in part]
        assert inside(points[:, index].clamp(0, 159), masks).double().mean() > 0.97, name


def test_features_follow_each_other(crops: Faces) -> None:
    scores = landmarks(crops, NOBODY, ["mouth", "eyes"], margin=0.03)
    distances = region_distances(face_points(crops.images), ["mouth", "eyes"], (160, 160))
    mouth, eyes = (distances <= 0.03).unbind(dim=1)
    assert scores[mouth].min() >= 2 > scores[eyes & ~mouth].max()
    assert scores[eyes & ~mouth].min() >= 1 > 0 > scores[~eyes & ~mouth].max()


def test_the_whole_face_grows_from_its_middle(crops: Faces) -> None:
    ellipse = view(budget(whole_face(crops, NOBODY), 0.4, None, (256, 256)))[0, 0]
    rows, columns = ellipse.any(dim=1).sum(), ellipse.any(dim=0).sum()
    assert rows / columns == pytest.approx(1.3, abs=0.03)
    assert rows * columns * torch.pi / 4 == pytest.approx(0.4 * 160**2, rel=0.02)
    hull = whole_face(crops, NOBODY, shape="hull")
    points = face_points(crops.images)
    share = (hull >= 0).double().mean(dim=(1, 2)).min().item()
    masks = budget(hull, share, None, (256, 256))
    smaller = budget(hull, share / 4, None, (256, 256))
    assert not inside(points[:, 8:9].clamp(0, 159), smaller).any()  # the chin comes late
    assert inside(points[:, 30:31], masks).all()
    assert not torch.equal(masks[0], masks[1])  # each face's own
    inner = torch.zeros(len(hull), 1, 256, 256, dtype=torch.bool)
    view(inner)[:, 0] = whole_face(crops, NOBODY, shape="inner") >= 0
    assert inside(points[:, [19, 24, 30, 38, 43, 51, 57]], inner).all()
    assert not inside(points[:, [4, 8, 12]].clamp(0, 159), inner).any()
    assert (view(inner)[:, 0] & (hull >= 0)).sum() == inner.sum()  # a part of the whole hull


def test_the_t_zone_is_a_t(crops: Faces) -> None:
    zone = t_zone(crops, NOBODY) >= 0
    points = face_points(crops.images)
    masks = torch.zeros(len(zone), 1, 256, 256, dtype=torch.bool)
    view(masks)[:, 0] = zone
    assert inside(points[:, [19, 24, 27, 30, 33, 38, 43, 51, 57]], masks).all()
    cheeks = torch.stack([points[:, [3, 48]].mean(dim=1), points[:, [13, 54]].mean(dim=1)], dim=1)
    assert not inside(cheeks, masks).any()


def test_distances_of_a_square_by_hand() -> None:
    square = torch.tensor([[[2.0, 2.0], [7.0, 2.0], [7.0, 7.0], [2.0, 7.0]]], dtype=torch.float64)
    distances = hull_distances(square, (10, 10))[0]
    assert distances[4].tolist() == pytest.approx([0.2, 0.1, -0.1, -0.2, -0.3, -0.3, -0.2, -0.1, 0.1, 0.2])
    beyond = hull_distances(square + 50, (10, 10))
    assert (beyond == beyond[0, 0, 0]).all()
    assert beyond[0, 0, 0] > 1


def test_boxes_are_kept_to_the_pixel() -> None:
    images: Images = torch.zeros(2, 3, 256, 256)
    masks = protected(images, [[0.55, 0.0, 0.7, 1.0]])
    assert view(masks)[..., 88:112].all()
    assert masks.sum() == 2 * 24 * 160
    assert protected(images, [[0.001, 0.001, 0.002, 0.002]]).sum() == 2  # what it touches
    assert not protected(images, []).any()


@pytest.mark.parametrize("shown", ["crops", "blank"])
def test_a_kept_mouth_is_the_lips(shown: str, request: pytest.FixtureRequest) -> None:
    faces: Faces = request.getfixturevalue(shown)
    kept = protected(faces.images, ["mouth"])
    assert inside(face_points(faces.images)[:, 60:], kept).double().mean() > 0.97
    assert 0.01 < view(kept).double().mean() < 0.08
    assert kept.sum() == view(kept).sum()


@pytest.mark.parametrize(
    ("masker", "knobs", "message"),
    [
        (landmarks, {"order": ["ears"]}, r"masker.order must list some of \['eyes', .*, each once, got \['ears'\]"),
        (landmarks, {"order": []}, r"masker.order .* got \[\]"),
        (landmarks, {"order": ["nose", "nose"]}, r"masker.order .* each once, got"),
        (landmarks, {"order": ["nose"], "margin": 8.0}, r"masker.margin is a share .* in \[0, 0.5\), got 8"),
        (whole_face, {"shape": "box"}, r"masker.shape must be one of \('ellipse', 'hull', 'inner'\), got 'box'"),
        (whole_face, {"aspect": 0.0}, r"masker.aspect, .* above 0, got 0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(
    masker: Callable[..., Any], knobs: dict[str, Any], message: str, blank: Faces
) -> None:
    with pytest.raises(InputError, match=message):
        masker(blank, NOBODY, **knobs)
