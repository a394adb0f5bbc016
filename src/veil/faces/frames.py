"""Frames of a video file, and a video file of frames. PyAV reads and writes them with FFmpeg."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray

from veil.errors import InputError
from veil.faces.align import Pixels
from veil.faces.decode import Unreadable

# FFmpeg's readers and writers by suffix: named, for what a file holds could else be a list of addresses that it fetches
READERS = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi"}
WRITERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
VIDEOS = frozenset(READERS)
INSTALL = "videos need PyAV: pip install 'veil[video]'"
# How finely each codec is written, about as x264 at 18 is; every other codec becomes H.264
QUALITY = {
    "h264": {"crf": "18"},
    "hevc": {"crf": "18", "x265-params": "log-level=error"},
    "vp8": {"crf": "6", "b": "50M", "cpu-used": "4"},
    "vp9": {"crf": "22", "b": "0", "cpu-used": "4", "row-mt": "1"},
    "av1": {"crf": "20", "preset": "8"},
    "mjpeg": {"q": "2", "flags": "+qscale", "global_quality": "236"},
    "mpeg4": {"flags": "+qscale", "global_quality": "236"},
    "ffv1": {},
}
MPEG4_FINEST = 65535  # ticks a second of an MPEG-4 stream
UPRIGHT = (1, 0, 0, 1)
Turn = tuple[int, int, int, int]  # signs of a display matrix's a, b, c, d: x' = a x + c y, y' = b x + d y
Packet = Any  # av.Packet of a stream that is copied


class Frame(NamedTuple):
    """A picture of a video."""

    number: int  # from 0
    pixels: Pixels  # upright
    native: Any  # av.VideoFrame, as it was decoded
    turn: Turn

    @property
    def seconds(self) -> float:
        """When it is shown."""
        return float(self.native.pts * self.native.time_base)


def is_video(name: str) -> bool:
    """Whether a file's suffix is a video's."""
    return Path(name).suffix.lower() in VIDEOS


def pyav() -> Any:
    """The module. Raises InputError where it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError(INSTALL) from error
    return av


class Reader:
    """A video file, read from its start to its end: frames of its first picture stream, and packets of its sound and
    subtitles between them. One frame is in memory at a time.

    Raises Unreadable, also while frames are read, for what is no video or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.av, self.path = pyav(), path
        try:
            self.container = self.av.open(str(path), format=READERS[path.suffix.lower()], metadata_errors="ignore")
        except (self.av.FFmpegError, ValueError) as error:
            raise Unreadable(f"no video, or damaged: {error}") from error
        pictures = [one for one in self.container.streams.video if not _attached(self.av, one)]
        if not pictures:
            self.container.close()
            raise Unreadable("no moving pictures in it")
        self.pictures = pictures[0]
        self.pictures.thread_type = "AUTO"
        self.others = [one for one in self.container.streams if one.type in ("audio", "subtitle")]

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.container.close()

    @property
    def count(self) -> int | None:
        """Frames, as the file says, where it does."""
        return self.pictures.frames or None

    def frames(self) -> Iterator[Frame]:
        """The pictures alone."""
        for item in self._read([self.pictures]):
            if isinstance(item, Frame):
                yield item

    def everything(self) -> Iterator[Frame | Packet]:
        """Frames, and the packets of the other streams."""
        return self._read([self.pictures, *self.others])

    def _read(self, streams: list[Any]) -> Iterator[Frame | Packet]:
        number, size, last = 0, None, None
        for item in self._checked(streams):
            if isinstance(item, self.av.Packet):
                yield item
                continue
            frame = _upright(number, item)
            if item.is_corrupt or item.pts is None or (last is not None and item.pts <= last):
                raise Unreadable(f"frame {number} is damaged, or its time is")
            if size not in (None, frame.pixels.shape):
                raise Unreadable(f"frame {number} has another size than the first")
            number, size, last = number + 1, frame.pixels.shape, item.pts
            yield frame
        if not number:
            raise Unreadable("no frame in it")

    def _checked(self, streams: list[Any]) -> Iterator[Any]:
        """What is decoded; what fails in that, and nothing that is done with it, is Unreadable."""
        items = self._decoded(streams)
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except (self.av.FFmpegError, ValueError) as error:
                raise Unreadable(f"damaged: {error}") from error
            yield item

    def _decoded(self, streams: list[Any]) -> Iterator[Any]:
        for packet in self.container.demux(streams):
            if packet.is_corrupt:
                raise Unreadable("damaged: a packet is not whole")
            if packet.stream is self.pictures:
                yield from packet.decode()
            elif packet.dts is not None:  # else it only says that the stream is over
                yield packet


def _attached(av: Any, stream: Any) -> bool:
    """Whether a stream is a cover picture, or thumbnails."""
    kinds = av.stream.Disposition
    return bool(stream.disposition & (kinds.attached_pic | kinds.timed_thumbnails))


def _upright(number: int, native: Any) -> Frame:
    matrix = native.side_data.get("DISPLAYMATRIX")
    turn = UPRIGHT if matrix is None else _turn(bytes(matrix))
    return Frame(number, _turned(native.to_ndarray(format="rgb24"), turn), native, turn)


def _turn(matrix: bytes) -> Turn:
    """To the nearest right angle."""
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


def _turned(pixels: Pixels, turn: Turn) -> UInt8[ndarray, "rows columns 3"]:
    """Pixels as a player shows them."""
    a, b, c, d = turn
    if not a:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: b + d, :: a + c])


class Writer:
    """A video file like another: the same size, codec (where it can be written), times, sound and subtitles, upright,
    and nothing that is told about it.

    Args:
        path: with the suffix of the other; it is there, whole, once the writer is left without an error.

    """

    def __init__(self, path: Path, like: Reader) -> None:
        self.av, self.pictures = like.av, like.pictures
        options = {"fflags": "+bitexact"}  # not even the program's name
        self.container = self.av.open(str(path), "w", format=WRITERS[path.suffix.lower()], options=options)
        self.others: dict[int, Any] = {}
        self.stream: Any = None
        self.others_of = like.others
        self.waiting: list[Packet] = []  # of the time before the first frame, which says what the file is like

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self.stream is not None:
            self._mux(self.stream.encode(None))
        self.container.close()

    def copy(self, packet: Packet) -> None:
        """Take over a packet of sound or subtitles as it is."""
        if self.stream is None:
            self.waiting.append(packet)
        else:
            packet.stream = self.others[packet.stream.index]
            self.container.mux(packet)

    def write(self, frame: Frame, shown: Pixels) -> None:
        """A frame that shows `shown`; where that is as it was, the frame's own values are encoded anew."""
        if self.stream is None:
            self._begin(frame)
        new = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24")
        native = frame.native
        new = new.reformat(
            format=self.stream.pix_fmt,
            dst_colorspace=native.colorspace,
            dst_color_range=native.color_range,
            src_color_range=2,  # RGB's: full
        )
        if frame.turn == UPRIGHT and native.format.name == self.stream.pix_fmt:
            _keep(native, new, (shown == frame.pixels).all(axis=2))
        new.pts, new.time_base, new.duration = native.pts, native.time_base, native.duration
        new.colorspace, new.color_range = native.colorspace, native.color_range
        self._mux(self.stream.encode(new))

    def _begin(self, frame: Frame) -> None:
        source, native = self.pictures.codec_context, frame.native
        height, width = frame.pixels.shape[:2]
        codec = _codec(source.codec.canonical_name, native.time_base)
        rate = self.pictures.average_rate or Fraction(25)
        self.stream = self.container.add_stream(codec, rate=rate, options=dict(QUALITY[codec]))
        context = self.stream.codec_context
        context.width, context.height = width, height
        context.time_base = self.stream.time_base = native.time_base
        names = {one.name for one in self.av.Codec(codec, "w").video_formats or ()}
        odd = height % 2 or width % 2
        common = "yuv444p" if odd and codec in ("h264", "hevc") else "yuv420p"
        context.pix_fmt = native.format.name if native.format.name in names and not odd else common
        for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(context, name, getattr(source, name))
        if source.sample_aspect_ratio:
            ratio = source.sample_aspect_ratio
            context.sample_aspect_ratio = ratio if frame.turn[0] else 1 / ratio
        if self.container.format.name == "avi":
            context.max_b_frames = 0  # an AVI has no times of its own, frames come in their order
        for other in self.others_of:
            made = self.container.add_stream_from_template(other, opaque=True)
            made.metadata.clear()
            self.others[other.index] = made
        for packet in self.waiting:
            self.copy(packet)
        self.waiting.clear()

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            self.container.mux(packet)


def _codec(name: str, time_base: Fraction) -> str:
    """The codec that a stream is written with."""
    if name not in QUALITY or (name == "mpeg4" and time_base.denominator > MPEG4_FINEST):
        return "h264"
    return name


def _keep(native: Any, new: Any, same: Bool[ndarray, "h w"]) -> None:
    """Put the values of `native` into `new`, a frame of its format, where `same`: no change of colours and back."""
    parts = native.format.components
    if len({part.plane for part in parts}) < len(parts) or native.format.is_big_endian:
        return
    for part in parts:
        kind = np.uint8 if part.bits <= 8 else np.uint16
        old, own = (_values(frame.planes[part.plane], kind) for frame in (native, new))
        whole = _all_of_block(same, own.shape)
        own[whole] = old[whole]


def _values(plane: Any, kind: type) -> ndarray:
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]


def _all_of_block(same: Bool[ndarray, "h w"], size: tuple[int, ...]) -> Bool[ndarray, "rows columns"]:
    """For each value of a plane, whether all pixels that it is of are the same."""
    down, across = (-(-side // part) for side, part in zip(same.shape, size, strict=True))
    padded = np.pad(same, ((0, size[0] * down - same.shape[0]), (0, size[1] * across - same.shape[1])), mode="edge")
    return np.asarray(padded.reshape(size[0], down, size[1], across).all(axis=(1, 3)))


def still(path: Path, seconds: float) -> Pixels:
    """The frame of a video that is shown at a time. Raises Unreadable."""
    with Reader(path) as clip:
        clip.container.seek(int(seconds / clip.pictures.time_base), stream=clip.pictures)
        for frame in clip.frames():
            if frame.seconds >= seconds - 1e-6:
                return frame.pixels
    raise Unreadable(f"no frame at {seconds:.3f} s")
