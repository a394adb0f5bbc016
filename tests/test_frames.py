"""Reading and writing videos: the same file but for its pictures and for what is told about it."""

import sys
from pathlib import Path

import av
import moving
import numpy as np
import pytest

from veil.errors import InputError
from veil.faces.decode import Unreadable
from veil.faces.frames import Frame, Reader, Writer, still

ALIKE = 4  # mean difference in 8 bits that a codec may make


def frames(count: int = 12, size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """Smooth colours that change from frame to frame."""
    width, height = size
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return [np.stack([across, down, np.full_like(down, 20 * n % 255)], 2).astype(np.uint8) for n in range(count)]


def rewrite(source: Path, target: Path, changed: slice | None = None) -> list[Frame]:
    """Through the reader and the writer; the rows and columns `changed` turn black."""
    seen = []
    with Reader(source) as reader, Writer(target, reader) as writer:
        for item in reader.everything():
            if isinstance(item, Frame):
                seen.append(item)
                shown = item.pixels.copy()
                if changed is not None:
                    shown[changed, changed] = 0
                writer.write(item, shown)
            else:
                writer.copy(item)
    return seen


@pytest.mark.parametrize(
    ("name", "codec", "kept", "pix_fmt", "sound", "options"),
    [
        ("clip.mp4", "h264", "h264", "yuv420p", "aac", {}),
        ("clip.mov", "hevc", "hevc", "yuv420p", "aac", {"x265-params": "log-level=error"}),
        ("clip.m4v", "h264", "h264", "yuv444p", None, {}),
        ("clip.mkv", "ffv1", "ffv1", "yuv420p", "pcm_s16le", {}),
        ("clip.mkv", "h264", "h264", "yuv420p10le", "aac", {}),
        ("clip.webm", "vp9", "vp9", "yuv420p", "libopus", {}),
        ("clip.webm", "vp8", "vp8", "yuv420p", "libopus", {"b": "5M"}),
        ("clip.mkv", "av1", "av1", "yuv420p", "libopus", {}),
        ("clip.avi", "mpeg4", "mpeg4", "yuv420p", "pcm_s16le", {}),
        ("clip.avi", "mjpeg", "mjpeg", "yuvj420p", None, {}),
        ("clip.mov", "mpeg2video", "h264", "yuv420p", "aac", {}),
    ],
)
def test_pictures_alone_are_encoded_anew(
    name: str, codec: str, kept: str, pix_fmt: str, sound: str | None, options: dict[str, str], tmp_path: Path
) -> None:
    subtitles = name.endswith("mkv") and codec == "h264"
    source = moving.write_clip(tmp_path / name, frames(), codec, None, sound, subtitles, pix_fmt, options)
    (tmp_path / "out").mkdir()
    rewrite(source, tmp_path / "out" / name, slice(0, 32))
    before, after = moving.play(source), moving.play(tmp_path / "out" / name)
    assert after.codec == kept
    assert after.pix_fmt == before.pix_fmt
    assert after.times == before.times
    assert len(after.frames) == 12
    assert after.others == before.others
    assert set(after.others) == ({"audio"} if sound else set()) | ({"subtitle"} if subtitles else set())
    for one, other in zip(before.frames, after.frames, strict=True):
        assert one.shape == other.shape
        assert abs(one[40:, 40:].astype(int) - other[40:, 40:]).mean() < ALIKE
        assert other[4:28, 4:28].mean() < 20
    content = (tmp_path / "out" / name).read_bytes()
    assert b"SECRET" in source.read_bytes()
    assert b"SECRET" not in content
    assert b"48.1234" not in content
    with av.open(str(tmp_path / "out" / name)) as written:
        assert not written.chapters()
        assert not {key.lower() for key in written.metadata} & {"title", "location", "comment", "creation_time"}


def test_times_that_are_not_even_stay(tmp_path: Path) -> None:
    times = [0, 20, 25, 90, 100, 160, 161, 300, 303, 340, 500, 900]
    for name in ("a.mp4", "a.mkv"):
        source = moving.write_clip(tmp_path / name, frames(), times=times)
        rewrite(source, tmp_path / f"new-{name}")
        before, after = moving.play(source).times, moving.play(tmp_path / f"new-{name}").times
        assert len(set(np.diff([float(time) for time in before]).round(4))) > 3
        assert after == before


def test_what_is_not_changed_loses_no_colour(tmp_path: Path) -> None:
    """In a lossless codec every value of the picture's own planes comes back."""
    source = moving.write_clip(tmp_path / "a.mkv", frames(), "ffv1", sound=None)
    rewrite(source, tmp_path / "b.mkv", slice(10, 20))
    for before, after in zip(_planes(source), _planes(tmp_path / "b.mkv"), strict=True):
        for one, other, scale in zip(before, after, (1, 2, 2), strict=True):
            changed = np.zeros(one.shape, bool)
            changed[10 // scale : 20 // scale, 10 // scale : 20 // scale] = True
            assert (one == other)[~changed].all()
            assert not (one == other)[changed].all()


def _planes(path: Path) -> list[list[np.ndarray]]:
    with av.open(str(path)) as container:
        return [
            [
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].copy()
                for plane in frame.planes
            ]
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("standard", [1, 5])
def test_colours_follow_the_standard_that_the_file_names(standard: int, tmp_path: Path) -> None:
    """BT.709 and BT.601."""
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 0] = 200
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("h264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.colorspace = standard
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(format="yuv420p", dst_colorspace=standard)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    seen = rewrite(tmp_path / "a.mp4", tmp_path / "b.mp4", slice(0, 16))
    assert abs(seen[0].pixels.reshape(-1, 3).mean(axis=0) - [200, 0, 0]).max() < 3
    with av.open(str(tmp_path / "b.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace == standard
        assert abs(frame.to_ndarray(format="rgb24")[32:].reshape(-1, 3).mean(axis=0) - [200, 0, 0]).max() < 3


MATRICES = {  # of a movie's track, and what they make of its pictures
    (0, 1, -1, 0): lambda pixels: np.rot90(pixels, -1),
    (0, -1, 1, 0): lambda pixels: np.rot90(pixels),
    (-1, 0, 0, -1): lambda pixels: np.rot90(pixels, 2),
    (-1, 0, 0, 1): np.fliplr,
}


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_a_turned_video_is_written_upright(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    """As phones film: the matrix of the track says how players turn it."""
    source = moving.write_clip(tmp_path / "a.mp4", frames())
    content = bytearray(source.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # ISO 14496-12, 8.3.2, version 0
    a, b, c, d = (int(value) << 16 for value in matrix)
    whole = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    content[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in whole)
    plain = moving.play(source).frames
    source.write_bytes(content)
    seen = rewrite(source, tmp_path / "b.mp4")
    after = moving.play(tmp_path / "b.mp4").frames
    for frame, one, other in zip(seen, plain, after, strict=True):
        assert np.array_equal(frame.pixels, MATRICES[matrix](one))
        assert other.shape == frame.pixels.shape
        assert abs(other.astype(int) - frame.pixels).mean() < ALIKE
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_a_picture_of_odd_sides_keeps_them(tmp_path: Path) -> None:
    source = moving.write_clip(tmp_path / "a.mkv", frames(size=(97, 63)), "ffv1", pix_fmt="yuv444p")
    rewrite(source, tmp_path / "b.mkv")
    assert moving.play(tmp_path / "b.mkv").frames[0].shape == (63, 97, 3)
    source = moving.write_clip(tmp_path / "c.mkv", frames(size=(97, 63)), "vp9", sound=None)
    source = source.rename(tmp_path / "c.webm")
    rewrite(source, tmp_path / "d.webm", slice(0, 9))
    assert moving.play(tmp_path / "d.webm").frames[0].shape == (63, 97, 3)


def damaged(path: Path, kind: str) -> Path:
    """A file that is no whole video."""
    if kind == "nothing":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a video at all\n" * 50)
    elif kind == "list of addresses":
        path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n")
    else:
        moving.write_clip(path, frames(40))
        content = bytearray(path.read_bytes())
        if kind == "cut short":
            content = content[: len(content) // 2]
        if kind == "overwritten":
            start = content.index(b"mdat") + 300
            content[start : start + 2000] = bytes(2000)
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["nothing", "text", "list of addresses", "cut short", "overwritten"])
def test_what_is_no_whole_video_is_unreadable(kind: str, tmp_path: Path) -> None:
    path = damaged(tmp_path / "a.mp4", kind)
    with pytest.raises(Unreadable), Reader(path) as reader:
        list(reader.frames())


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=16000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.rate, samples.pts = 16000, 0
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
    with pytest.raises(Unreadable, match="no moving pictures"):
        Reader(tmp_path / "a.mp4")


def test_a_still_is_the_frame_of_its_time(tmp_path: Path) -> None:
    source = moving.write_clip(tmp_path / "a.mp4", frames(40))
    told = moving.play(source)
    for number in (0, 17, 39):
        assert np.array_equal(still(source, float(told.times[number])), told.frames[number])


def test_without_pyav_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'veil\[video\]'"):
        Reader(tmp_path / "a.mp4")
