"""Image files of every kind are read as they are meant, or refused with a reason."""

import contextlib
import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from veil.data.photos import read_file
from veil.faces import decode as module
from veil.faces.decode import Unreadable, decode, image_format, read_photo

RAMP = np.linspace(0, 255, 64 * 48).round().astype(np.uint8).reshape(48, 64)
COLOUR = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=2)


def encoded(image: Image.Image, kind: str, **knobs: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **knobs)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces more than its few bytes hold."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(2**20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["png", "bmp", "ppm", "tiff", "webp"])
def test_lossless_kinds_are_exact(kind: str) -> None:
    knobs = {"lossless": True} if kind == "webp" else {}
    assert np.array_equal(decode(encoded(Image.fromarray(COLOUR), kind, **knobs)), COLOUR)


@pytest.mark.parametrize("kind", ["heif", "avif"])
def test_phones_kinds_are_read_upright_and_damage_is_refused(kind: str) -> None:
    module._formats()  # registers what can write them too
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = np.repeat(np.repeat(COLOUR[::8, ::8], 8, axis=0), 8, axis=1)
    content = encoded(Image.fromarray(smooth), kind, quality=100, exif=exif.tobytes())
    assert image_format(content) == kind.upper()
    upright = np.rot90(smooth, -1)
    assert np.abs(decode(content).astype(int) - upright).mean() < 3
    generator = np.random.default_rng(0)
    for cut in generator.integers(16, len(content) - 1, 20):
        with pytest.raises(Unreadable):
            decode(content[:cut])
    for _ in range(30):
        flipped = np.frombuffer(content, np.uint8).copy()
        flipped[generator.integers(len(flipped), size=8)] ^= 8
        with contextlib.suppress(Unreadable):
            assert decode(flipped.tobytes()).dtype == np.uint8


def test_without_its_package_heic_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module._formats()
    content = encoded(Image.fromarray(COLOUR), "heif")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    module._formats.cache_clear()
    with pytest.raises(Unreadable, match=r"photos in HEIC need `pip install 'veil\[heif\]'`"):
        decode(content)
    assert decode(encoded(Image.fromarray(COLOUR), "avif")).shape == COLOUR.shape
    module._formats.cache_clear()


def test_a_jpeg_with_a_preview_behind_it_is_a_jpeg() -> None:
    image = Image.fromarray(COLOUR)
    content = encoded(image, "mpo", save_all=True, append_images=[image.resize((16, 12))])
    assert b"MPF" in content
    assert image_format(content) == image_format(encoded(image, "jpeg")) == "JPEG"
    assert decode(content).shape == COLOUR.shape


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    grey = decode(encoded(Image.fromarray(deep), kind))[..., 0]
    assert np.array_equal(grey, (deep / 257).round().astype(np.uint8))
    assert len(np.unique(grey)) > 200


def test_sixteen_bit_colour_is_scaled() -> None:
    deep = COLOUR[..., ::-1].astype(np.uint16) * 257
    _, content = cv2.imencode(".png", deep)
    assert np.array_equal(decode(content.tobytes()), COLOUR)


def test_cmyk_comes_back_as_its_colours() -> None:
    content = encoded(Image.fromarray(COLOUR).convert("CMYK"), "jpeg", quality=100, subsampling=0)
    assert np.abs(decode(content).astype(int) - COLOUR).mean() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_on_white(mode: str) -> None:
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:, 32:, 3] = 255  # left half clear, right half black
    image = Image.fromarray(pixels)
    content = encoded(image.quantize(8) if mode == "P" else image.convert(mode), "png")
    assert (decode(content)[:, :32] == 255).all()
    assert (decode(content)[:, 32:] == 0).all()


def test_half_transparent_is_blended() -> None:
    image = Image.new("RGBA", (4, 4), (200, 100, 0, 128))
    expected = np.array([200, 100, 0]) * 128 / 255 + 255 * (1 - 128 / 255)
    assert decode(encoded(image, "png"))[0, 0] == pytest.approx(expected, abs=1)


def test_a_palette_gives_its_colours() -> None:
    few = COLOUR // 128 * 128
    assert np.array_equal(decode(encoded(Image.fromarray(few).quantize(16), "png")), few)


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "green")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert decode(content)[16, 16].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF 2.3, 4.6.4: where row 0 and column 0 are shown
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }
    content = encoded(Image.fromarray(COLOUR), "png", exif=exif)
    assert np.array_equal(decode(content), undo[orientation](COLOUR))


def test_damaged_metadata_does_not_cost_the_photo() -> None:
    content = encoded(
        Image.fromarray(COLOUR), "jpeg", quality=100, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x00\x01garbage"
    )
    assert decode(content).shape == COLOUR.shape


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(Unreadable, match=f"mode {mode}: 32-bit pixels have no agreed range"):
        decode(encoded(Image.fromarray(RAMP).convert(mode), "tiff"))


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 9_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_unopened(size: tuple[int, int]) -> None:
    with pytest.raises(Unreadable, match=r"px, more than 100 Mpx|exceeds limit"):
        decode(bomb(*size))


def test_a_photo_below_the_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 48 * 64)
    assert decode(encoded(Image.fromarray(COLOUR), "png")).shape == COLOUR.shape


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(1000), b"<svg/>"]
)
def test_what_is_no_photo_is_refused(content: bytes) -> None:
    with pytest.raises(Unreadable, match=r"not one of BMP, GIF|truncated|Error"):
        decode(content)


def test_a_giant_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veil.data.photos.MAX_BYTES", 1000)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    (tmp_path / "giant.jpg").write_bytes(bytes(5000))
    assert len(read_file(tmp_path / "giant.jpg")) == 1001
    with pytest.raises(Unreadable, match="larger than"):
        read_photo(lambda: read_file(tmp_path / "giant.jpg"))


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="FileNotFoundError"):
        read_photo(lambda: read_file(tmp_path / "gone.jpg"))
