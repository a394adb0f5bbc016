"""Faces of a video followed from frame to frame: which detections are one face, and where it is in every frame."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.signal import savgol_filter
from torch import Tensor

from veil.errors import InputError
from veil.faces.align import Box, Found, Pixels, plausible

OVERLAP = 0.3  # intersection over union from which a detection may be the face that a track expects there
AWAY = 2.0  # sides: how far off a face that a recogniser knows may be
STEADY = 9  # frames over which places are smoothed (a parabola's fit, Savitzky and Golay 1964)
SPEED = 5  # frames of which a face's speed is measured
SAMPLES = 8  # crops of a track are kept, at most: masks are made of them
THUMB = (32, 18)  # px
# Of the pictures before and after a cut: correlation, change of a pixel in [0, 1], share of pixels that change so much
UNLIKE, CHANGE, EVERYWHERE = 0.4, 0.06, 0.75


@dataclass(frozen=True)
class Clips:
    """How faces are followed through a video, `task.video`.

    Args:
        every: faces are looked for in each so many-th frame.
        bridge: frames in a row without a detection over which a face is still the same one.
        extend: frames before the first and after the last detection that are covered too.
        smooth: weight in [0, 1) of the paint before, in the mean that is shown.
        batch: faces painted at once; speed and memory only.

    """

    every: int = 1
    bridge: int = 15
    extend: int = 8
    smooth: float = 0.6
    batch: int = 16

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"task.video.every counts frames, at least 1, got {self.every}")
        if self.bridge < self.every - 1:
            raise InputError(f"task.video.bridge must be at least task.video.every - 1 frames, got {self.bridge}")
        if self.extend < 0:
            raise InputError(f"task.video.extend counts frames, at least 0, got {self.extend}")
        if not 0 <= self.smooth < 1:
            raise InputError(f"task.video.smooth is a weight, in [0, 1), got {self.smooth}")


class Track(NamedTuple):
    """A face of a video: its detections, never on both sides of a cut.

    Args:
        numbers: of the frames where it was found, rising.
        scene: first frame, and the frame after the last, of what lies between two cuts.
        samples: some of its crops, encoded.

    """

    numbers: Int[ndarray, " n"]
    boxes: Float[ndarray, "n 4"]
    points: Float[ndarray, "n 5 2"]
    scene: Int[ndarray, "2"]
    samples: list[bytes]

    def to_json(self) -> str:
        """As a line of a ledger holds it."""
        buffer, samples = io.BytesIO(), [np.frombuffer(sample, np.uint8) for sample in self.samples]
        np.savez_compressed(buffer, self.numbers, self.boxes, self.points, self.scene, *samples)
        return base64.b64encode(buffer.getvalue()).decode()

    @classmethod
    def from_json(cls, text: str) -> "Track":
        """What `to_json` wrote."""
        with np.load(io.BytesIO(base64.b64decode(text))) as held:
            numbers, boxes, points, scene, *samples = (held[f"arr_{index}"] for index in range(len(held.files)))
        return cls(numbers, boxes, points, scene, [sample.tobytes() for sample in samples])


class Seen(NamedTuple):
    """A face that is found in a frame."""

    found: Found
    confidence: float
    vectors: Mapping[str, Float[Tensor, " d"]]  # unit, by recogniser, the white box first
    crop: Pixels


@dataclass
class Following:
    """A track while the video goes on."""

    scene: int  # its first frame
    numbers: list[int] = field(default_factory=list)
    places: list[Found] = field(default_factory=list)
    sums: dict[str, Float[Tensor, " d"]] = field(default_factory=dict)
    confidence: float = 0.0
    best: int = 0  # of the detections, the surest
    samples: list[bytes] = field(default_factory=list)
    stride: int = 1  # detections from sample to sample

    def add(self, number: int, seen: Seen) -> None:
        """Where it is now."""
        if len(self.numbers) % self.stride == 0:
            buffer = io.BytesIO()
            Image.fromarray(seen.crop).save(buffer, "JPEG", quality=95)
            self.samples.append(buffer.getvalue())
        if len(self.samples) > SAMPLES:
            self.samples, self.stride = self.samples[::2], 2 * self.stride
        if seen.confidence > self.confidence:
            self.best, self.confidence = len(self.numbers), seen.confidence
        self.numbers.append(number)
        self.places.append(seen.found)
        for name, vector in seen.vectors.items():
            self.sums[name] = self.sums[name] + vector if name in self.sums else vector

    def expected(self, number: int) -> Box:
        """Where its box should be: it goes on as it went."""
        before = max(len(self.numbers) - SPEED, 0)
        gone = self.numbers[-1] - self.numbers[before]
        move = _centre(self.places[-1].box) - _centre(self.places[before].box)
        return self.places[-1].box + np.tile(move / max(gone, 1) * (number - self.numbers[-1]), 2).astype(np.float32)


class Tracker:
    """Links detections to tracks, frame by frame.

    Each frame's detections go to the tracks so that the sum of overlap and likeness is largest (Kuhn 1955; the costs of
    DeepSORT, Wojke et al. 2017, arXiv:1703.07402).

    Args:
        same: cosine, by the first recogniser, above which two faces are one person's.

    """

    def __init__(self, clips: Clips, same: float) -> None:
        self.clips, self.same = clips, same
        self.over: list[tuple[Following, int]] = []  # with the frame at which its scene ends
        self._open: list[Following] = []
        self._gone: list[Following] = []  # of this scene, too long away to be the same
        self._scene = self._next = 0
        self._thumb: Float[ndarray, "h w"] | None = None

    def cut(self, number: int, pixels: Pixels) -> bool:
        """Whether the video cuts before this frame, the next: no track goes on then."""
        thumb = cv2.resize(pixels, THUMB, interpolation=cv2.INTER_AREA).mean(axis=2) / 255
        cut = self._thumb is not None and _differ(self._thumb, thumb)
        self._thumb, self._next = thumb, number + 1
        if cut:
            self._end_scene(number)
        return cut

    def add(self, number: int, seen: Sequence[Seen]) -> None:
        """The faces that are found in a frame."""
        far = [one for one in self._open if number - one.numbers[-1] > self.clips.bridge + 1]
        self._gone += far
        self._open = [one for one in self._open if one not in far]
        pairs = self._pairs(number, seen)
        for index, one in enumerate(seen):
            if index not in pairs:
                self._open.append(Following(self._scene))
            (pairs[index] if index in pairs else self._open[-1]).add(number, one)

    def _pairs(self, number: int, seen: Sequence[Seen]) -> dict[int, Following]:
        """Whose each detection is, by its index; a new face's is missing."""
        worth = np.zeros((len(seen), len(self._open)))
        for row, one in enumerate(seen):
            for column, track in enumerate(self._open):
                worth[row, column] = self._worth(number, one, track)
        rows, columns = linear_sum_assignment(worth, maximize=True)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return {row: self._open[column] for row, column in pairs if worth[row, column] > 0}

    def _worth(self, number: int, one: Seen, track: Following) -> float:
        """Overlap and likeness, above 0 where the detection may be the track's."""
        expected = track.expected(number)
        overlap, likeness = _overlap(expected, one.found.box), 0.0
        if one.vectors:
            name, vector = next(iter(one.vectors.items()))
            likeness = float(vector @ track.sums[name]) / max(float(track.sums[name].norm()), 1e-6)
        side = max(one.found.box[2:] - one.found.box[:2])
        near = np.linalg.norm(_centre(expected) - _centre(one.found.box)) < AWAY * side
        return 2 + overlap + likeness if overlap > OVERLAP or (likeness > self.same and near) else 0.0

    def _end_scene(self, number: int) -> None:
        self.over += [(one, number) for one in (*self._gone, *self._open)]
        self._open, self._gone, self._scene = [], [], number

    def finish(self) -> list[tuple[Following, Track]]:
        """Every track, by its first frame."""
        self._end_scene(self._next)
        self.over.sort(key=lambda one: one[0].numbers[0])
        return [(one, _track(one, end)) for one, end in self.over]


def _track(one: Following, end: int) -> Track:
    boxes = np.stack([place.box for place in one.places]).astype(np.float32)
    points = np.stack([place.points for place in one.places]).astype(np.float32)
    return Track(np.array(one.numbers), boxes, points, np.array([one.scene, end]), one.samples)


def _differ(before: Float[ndarray, "h w"], after: Float[ndarray, "h w"]) -> bool:
    """Whether two pictures are of two scenes: nearly all is different, as where somebody walks before the camera it is
    not, and they hardly go together, as in a flash they do.
    """
    one, other = before - before.mean(), after - after.mean()
    together = (one * other).sum() / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-6)
    return bool(together < UNLIKE and (abs(after - before) > CHANGE).mean() > EVERYWHERE)


def _centre(box: Box) -> Float[ndarray, "2"]:
    return (box[:2] + box[2:]) / 2


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    shared = float(sides.prod())
    return shared / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared)


class Course:
    """Where a face is in each frame from `first` on: the gaps between its detections are bridged in a straight line,
    it is followed some frames beyond its first and last, and what trembles is smoothed.
    """

    def __init__(self, track: Track, clips: Clips) -> None:
        numbers = track.numbers
        frames = np.arange(numbers[0], numbers[-1] + 1)
        boxes = _steady(_between(frames, numbers, track.boxes))
        relative, upright = _relative(track)
        points = _steady(_between(frames, numbers[upright], relative[upright].reshape(-1, 10)))
        reach = max(clips.extend, clips.every - 1)
        start, end = max(track.scene[0], numbers[0] - reach), min(track.scene[1], numbers[-1] + 1 + reach)
        before, after = int(numbers[0] - start), int(end - numbers[-1] - 1)
        self.first = int(start)
        self.boxes = _beyond(boxes, before, after)
        self.points = np.pad(points, ((before, after), (0, 0)), mode="edge").reshape(-1, 5, 2)

    @property
    def end(self) -> int:
        """The frame after its last."""
        return self.first + len(self.boxes)

    def at(self, number: int) -> Found:
        """The face in a frame from `first` on, before `end`."""
        box = self.boxes[number - self.first]
        points = box[:2] + self.points[number - self.first] * (box[2:] - box[:2])
        return Found(box.astype(np.float32), points.astype(np.float32))


def _relative(track: Track) -> tuple[Float[ndarray, "n 5 2"], Bool[ndarray, " n"]]:
    """Landmarks in shares of their boxes, and which of them are used: those that are plausible, if any is."""
    corners, sides = track.boxes[:, None, :2], track.boxes[:, None, 2:] - track.boxes[:, None, :2]
    good = np.array([plausible(Found(*place)) for place in zip(track.boxes, track.points, strict=True)])
    return (track.points - corners) / sides, good if good.any() else np.ones_like(good)


def _between(frames: Int[ndarray, " m"], numbers: Int[ndarray, " n"], values: Float[ndarray, "n k"]) -> ndarray:
    """In every frame, on straight lines; before and after those that are known, as there. `(m, k)`."""
    return np.stack([np.interp(frames, numbers, column) for column in values.T], axis=1)


def _steady(values: Float[ndarray, "m k"]) -> Float[ndarray, "m k"]:
    window = min(STEADY, len(values) - (len(values) + 1) % 2)  # odd
    return savgol_filter(values, window, 2, axis=0) if window > 3 else values


def _beyond(boxes: Float[ndarray, "m 4"], before: int, after: int) -> Float[ndarray, "more 4"]:
    """The box goes on in its first and last frames' direction, of one size."""
    reach = min(SPEED, len(boxes)) - 1
    speeds = [
        np.tile((_centre(boxes[late]) - _centre(boxes[early])) / max(reach, 1), 2)
        for early, late in ((0, reach), (-1 - reach, -1))
    ]
    head = boxes[0] - np.arange(before, 0, -1)[:, None] * speeds[0]
    tail = boxes[-1] + np.arange(1, after + 1)[:, None] * speeds[1]
    return np.concatenate([head, boxes, tail])
