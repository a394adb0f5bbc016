"""Which detections are one face, and where it is in every frame."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from veil.albums.tracks import SAMPLES, Clips, Course, Seen, Track, Tracker
from veil.errors import InputError
from veil.faces.align import Found

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
GROUND = (np.indices((240, 320)).sum(axis=0)[..., None] % 200 + np.zeros(3)).astype(np.uint8)
PEOPLE = F.normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)), dim=1)
SAME = 0.5


def found(left: float, top: float, side: float = 50) -> Found:
    box = np.array([left, top, left + side, top + side], np.float32)
    return Found(box, box[:2] + POINTS * side)


def seen(left: float, top: float, person: int = 0, confidence: float = 1.0, side: float = 50) -> Seen:
    return Seen(found(left, top, side), confidence, {"white": PEOPLE[person]}, np.zeros((256, 256, 3), np.uint8))


def follow(
    frames: list[list[Seen]], clips: Clips | None = None, pictures: dict[int, np.ndarray] | None = None
) -> list[Track]:
    """The tracks of a video whose detections are these; its picture stays but where it is told otherwise."""
    tracker, picture = Tracker(clips or Clips(), SAME), GROUND
    for number, faces in enumerate(frames):
        picture = (pictures or {}).get(number, picture)
        tracker.cut(number, picture)
        tracker.add(number, faces)
    return [track for _, track in tracker.finish()]


def test_two_faces_that_cross_stay_themselves() -> None:
    """One passes in front of the other, which is not found for some frames."""
    frames = []
    for number in range(40):
        first, second = seen(20 + 5 * number, 60, 0), seen(220 - 5 * number, 62, 1)
        frames.append([first] if 17 <= number <= 23 else [first, second])
    one, other = follow(frames)
    assert one.numbers.tolist() == list(range(40))
    assert other.numbers.tolist() == [*range(17), *range(24, 40)]
    assert np.allclose(one.boxes[:, 0], 20 + 5 * np.arange(40))
    assert np.allclose(other.boxes[:, 0], 220 - 5 * other.numbers)


@pytest.mark.parametrize(("gap", "tracks"), [(15, 1), (16, 2)])
def test_a_gap_is_bridged_up_to_its_length(gap: int, tracks: int) -> None:
    frames = [[seen(100, 60)] if number < 10 or number >= 10 + gap else [] for number in range(50)]
    assert len(follow(frames)) == tracks


def test_a_face_that_a_recogniser_knows_may_jump() -> None:
    jumped = [[seen(100, 60)]] * 5 + [[seen(160, 60)]] * 5
    assert len(follow(jumped)) == 1
    other = [[seen(100, 60)]] * 5 + [[seen(160, 60, person=1)]] * 5
    assert len(follow(other)) == 2


def test_between_two_detections_and_around_them_the_face_is_where_it_goes() -> None:
    """In a straight line, no frame is without a place, and it goes on as it went."""
    clips = Clips(bridge=15, extend=8)
    frames = [
        [seen(30 + 3 * number, 60 + number)] if number in (*range(10, 20), *range(30, 40)) else []
        for number in range(60)
    ]
    (track,) = follow(frames, clips)
    course = Course(track, clips)
    assert (course.first, course.end) == (2, 48)
    for number in range(2, 48):
        assert np.allclose(course.at(number).box, found(30 + 3 * number, 60 + number).box, atol=0.01)
        assert np.allclose(course.at(number).points, found(30 + 3 * number, 60 + number).points, atol=0.01)


def test_no_place_is_before_the_start_or_after_the_end() -> None:
    (track,) = follow([[seen(100, 60)]] * 12)
    course = Course(track, Clips(extend=8))
    assert (course.first, course.end) == (0, 12)


def test_at_a_cut_tracks_end_and_none_reaches_across() -> None:
    frames = [[seen(100, 60)] for _ in range(20)] + [[], [], *([seen(105, 60)] for _ in range(18))]
    one, other = follow(frames, pictures={20: 255 - GROUND[:, ::-1]})
    clips = Clips(extend=8)
    assert (Course(one, clips).first, Course(one, clips).end) == (0, 20)
    assert (Course(other, clips).first, Course(other, clips).end) == (20, 40)


def test_a_flash_is_no_cut() -> None:
    frames = [[seen(100, 60)] for _ in range(20)]
    assert len(follow(frames, pictures={9: np.clip(GROUND.astype(int) + 90, 0, 255).astype(np.uint8), 10: GROUND})) == 1


def test_frames_that_are_not_looked_at_are_covered() -> None:
    clips = Clips(every=4, bridge=15, extend=0)
    frames = [[seen(30 + 2 * number, 60)] if number % 4 == 0 else [] for number in range(31)]
    (track,) = follow(frames, clips)
    course = Course(track, clips)
    assert (course.first, course.end) == (0, 31)
    assert np.allclose(course.at(30).box, found(90, 60).box, atol=0.01)


def test_a_trembling_face_is_steadied_and_a_turning_one_followed() -> None:
    rng, numbers = np.random.default_rng(0), np.arange(120)
    left = 100 + 60 * np.sin(numbers / 12)
    frames = [[seen(x + rng.normal(0, 1.5), 60 + rng.normal(0, 1.5))] for x in left]
    (track,) = follow(frames)
    course = Course(track, Clips())
    places = np.array([course.at(int(number)).box[0] for number in numbers])
    raw = track.boxes[:, 0]
    assert np.std(np.diff(places - left)) < 0.5 * np.std(np.diff(raw - left))
    assert abs(places - left).mean() < 0.8 * abs(raw - left).mean()
    (track,) = follow([[seen(x, 60)] for x in left])
    course = Course(track, Clips())
    assert max(abs(course.at(number).box[0] - left[number]) for number in range(120)) < 0.3


def test_landmarks_that_cannot_be_right_are_taken_from_the_frames_beside() -> None:
    frames = [[seen(30 + number, 60)] for number in range(20)]
    wrong = frames[10][0].found._replace(points=frames[10][0].found.points[::-1].copy())
    frames[10] = [frames[10][0]._replace(found=wrong)]
    (track,) = follow(frames)
    assert np.allclose(Course(track, Clips()).at(10).points, found(40, 60).points, atol=0.01)


def test_a_track_is_kept_whole_and_with_few_samples() -> None:
    (track,) = follow([[seen(100 + number / 10, 60)] for number in range(500)])
    assert SAMPLES / 2 <= len(track.samples) <= SAMPLES
    again = Track.from_json(track.to_json())
    assert all(np.array_equal(one, other) for one, other in zip(track[:4], again[:4], strict=True))
    assert track.samples == again.samples


@pytest.mark.parametrize(
    ("knob", "value"), [("every", 0), ("bridge", -1), ("extend", -1), ("smooth", 1.0), ("smooth", -0.1)]
)
def test_a_knob_out_of_its_range_is_named(knob: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"task\.video\.{knob}.*{value}"):
        Clips(**{knob: value})
