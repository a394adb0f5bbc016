"""A video of faces that move on known tracks, for tests and benchmarks: AT&T faces before a textured ground, one of
them hidden for some frames by a board, with sound and subtitles.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy import ndarray
from PIL import Image

from veil.faces.align import Found
from veil.faces.detect import Detection

# Where eyes, nose and mouth are in AT&T's photos, about, in shares of their sides
LANDMARKS = np.array([[0.32, 0.45], [0.68, 0.45], [0.5, 0.62], [0.36, 0.77], [0.64, 0.77]], np.float32)
INNER = np.array([0.12, 0.12, 0.88, 0.95], np.float32)  # box of the face itself, left, top, right, bottom


class Scene(NamedTuple):
    """What is filmed."""

    faces: list[ndarray]  # pictures of faces, as large as they are filmed
    places: list[list[tuple[int, int]]]  # by face and frame: left, top
    hidden: range  # frames where the first face is behind the board
    frames: list[ndarray]

    def box(self, face: int, number: int) -> ndarray:
        """Where a face is in a frame."""
        left, top = self.places[face][number]
        height, width = self.faces[face].shape[:2]
        return np.array([left, top, left, top]) + INNER * np.array([width, height, width, height])


def scene(
    photos: Path,
    count: int,
    people: Sequence[int] = (1, 2),
    size: tuple[int, int] = (320, 240),
    scale: float = 1.1,
    period: int = 60,
) -> Scene:
    """Faces that swing from side to side, each on its own height; the first is hidden in the middle."""
    width, height = size
    faces = []
    for person in people:
        with Image.open(photos / f"s{person}" / "1.pgm") as image:
            faces.append(cv2.resize(np.array(image.convert("RGB")), None, fx=scale, fy=scale))
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(40, 200, (height // 8, width // 8, 3), dtype=np.uint8), size)
    reach = (width / len(faces) - faces[0].shape[1]) / 2
    room = (height - faces[0].shape[0]) / 2
    places = []
    for index in range(len(faces)):
        turn = 2 * np.pi * np.arange(count) / period + index
        left = width / len(faces) * index + reach * (1 + np.sin(turn))
        top = room * (1 + np.cos(turn / 2))
        places.append([(round(x), round(y)) for x, y in zip(left, top, strict=True)])
    hidden = range(count // 2, count // 2 + 6)
    frames = []
    for number in range(count):
        frame = ground.copy()
        for face, track in zip(faces, places, strict=True):
            left, top = track[number]
            frame[top : top + face.shape[0], left : left + face.shape[1]] = face
        if number in hidden:
            left, top = places[0][number]
            frame[:, left : left + faces[0].shape[1]] = (30, 90, 60)
        frames.append(frame)
    return Scene(faces, places, hidden, frames)


class Finder:
    """A detector for scenes: it finds a face where its very picture is, as far as it is not hidden."""

    def __init__(self, faces: Sequence[ndarray], confidence: float = 1.0) -> None:
        self.faces, self.confidence = faces, confidence

    def __call__(self, photo: ndarray) -> list[Detection]:
        found = []
        for face in self.faces:
            likeness = cv2.matchTemplate(photo, face, cv2.TM_CCOEFF_NORMED)
            _, best, _, (left, top) = cv2.minMaxLoc(likeness)
            if best > 0.8:
                sides = np.array([face.shape[1], face.shape[0]], np.float32)
                corner = np.array([left, top], np.float32)
                box = np.tile(corner, 2) + INNER * np.tile(sides, 2)
                found.append(Detection(Found(box.astype(np.float32), corner + LANDMARKS * sides), self.confidence))
        return found


def write_clip(
    path: Path,
    frames: Sequence[ndarray],
    codec: str = "h264",
    times: Sequence[int] | None = None,  # of the frames, in 1/600 s; None: 30 frames a second
    sound: str | None = "aac",
    subtitles: bool = False,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """A video with a title, a place and, if asked, sound."""
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "SECRET-TITLE", "location": "+48.1234+011.5678/", "comment": "SECRET-NOTE"})
        stream: Any = container.add_stream(codec, rate=30, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 600)
        stream.metadata["handler_name"] = "SECRET-CAMERA"
        audio: Any = (
            container.add_stream(sound, rate=48000 if sound == "libopus" else 16000, layout="mono") if sound else None
        )
        if subtitles:
            with av.open(str(_subtitles(path))) as words:
                text = container.add_stream_from_template(words.streams[0])
                for packet in words.demux():
                    if packet.dts is not None:
                        packet.stream = text
                        container.mux(packet)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (
                number if times is None else times[number],
                Fraction(1, 30 if times is None else 600),
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            seconds = len(frames) / 30
            wave = (
                np.sin(np.arange(int(seconds * audio.rate)) * 2 * np.pi * 440 / audio.rate).astype(np.float32)[None]
                * 0.3
            )
            kind = "fltp" if sound in ("aac", "libopus") else "s16"
            wave = wave if kind == "fltp" else (wave * 32767).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(wave, format=kind, layout="mono")
            samples.rate, samples.pts = audio.rate, 0
            fifo = av.AudioFifo()
            fifo.write(samples)
            size = 960 if sound == "libopus" else 1024
            for part in fifo.read_many(size, partial=True):
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "SECRET-CHAPTER"}}]
        )
    return path


def _subtitles(path: Path) -> Path:
    words = path.with_suffix(".srt")
    words.write_text("1\n00:00:00,100 --> 00:00:00,900\nHello there\n\n")
    return words


class Told(NamedTuple):
    """What a player gets from a video."""

    frames: list[ndarray]
    times: list[Fraction]
    codec: str
    pix_fmt: str
    others: dict[str, list[tuple[Fraction, bytes]]]  # by kind of stream: time and content of its packets


def play(path: Path) -> Told:
    """All of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames, times = [], []
        others: dict[str, list[tuple[Fraction, bytes]]] = {}
        for packet in container.demux():
            if packet.stream is stream:
                for frame in packet.decode():
                    frames.append(frame.to_ndarray(format="rgb24"))
                    times.append(frame.pts * frame.time_base)
            elif packet.pts is not None:
                others.setdefault(packet.stream.type, []).append((packet.pts * packet.time_base, bytes(packet)))
        return Told(frames, times, stream.codec.canonical_name, stream.codec_context.pix_fmt, others)
