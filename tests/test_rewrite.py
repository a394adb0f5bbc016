"""Photo files with some pixels replaced: what stays, what goes."""

import contextlib
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from numpy import ndarray
from photo_files import (
    BOX,
    PALETTE,
    PHOTO,
    PROFILE,
    RED,
    SECRET,
    assert_clean,
    exif,
    in_mode,
    opened,
    painted,
    secrets,
    written,
)
from PIL import Image, PngImagePlugin

from veil.faces import decode as module
from veil.faces.decode import TURNS, Unreadable, decode
from veil.faces.rewrite import rewrite

LOSSLESS = [
    *((kind, mode) for kind in ("PNG", "TIFF") for mode in ("L", "LA", "RGB", "RGBA", "P", "1")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ("TIFF", "CMYK"),
]
UNTURNED = [
    *(("BMP", mode) for mode in ("1", "L", "RGB", "P")),
    *(("PPM", mode) for mode in ("1", "L", "RGB")),
    ("GIF", "P"),
]


@pytest.mark.parametrize(
    ("kind", "mode", "orientation"),
    [*((*case, turn) for case in LOSSLESS for turn in (1, 3, 6)), *((*case, 1) for case in UNTURNED)],
)
def test_other_pixels_format_mode_and_profile_are_kept(kind: str, mode: str, orientation: int) -> None:
    content = written(kind, mode, orientation, **({"lossless": True} if kind == "WEBP" else {}))
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    found, shown = opened(new.content), decode(new.content)
    assert new.identical
    assert (shown[~mask] == before[~mask]).all()
    if mode == "P":
        colours = np.array(PALETTE.getpalette()).reshape(-1, 3)
        nearest = colours[((colours - RED) ** 2).sum(axis=1).argmin()]
        assert (shown[mask] == nearest).all()
    else:
        assert (shown[mask] == in_mode(after, mode)[mask]).all()
    assert (found.format, found.mode) == (kind, opened(content).mode)
    assert found.info.get("icc_profile") == opened(content).info.get("icc_profile")
    assert "icc_profile" in found.info or kind in ("BMP", "PPM", "GIF")
    assert_clean(new.content)


@pytest.mark.parametrize(
    ("kind", "mode", "orientation"),
    [
        *((*case, turn) for case in (*LOSSLESS, ("JPEG", "RGB"), ("JPEG", "L")) for turn in (1, 6)),
        *((*case, 1) for case in UNTURNED),
    ],
)
def test_a_file_tells_nothing_of_what_was_under_the_mask(kind: str, mode: str, orientation: int) -> None:
    """Two files that differ there only become the same file, to the byte."""
    after = Image.fromarray(np.random.default_rng(3).integers(0, 256, PHOTO.shape, np.uint8))
    new = np.array(after.transpose(TURNS[orientation]) if orientation > 1 else after)
    mask = np.zeros(new.shape[:2], bool)
    mask[BOX] = True
    options = {"lossless": True} if kind == "WEBP" else {}
    one, other = (written(kind, mode, orientation, secrets(orientation, under), **options) for under in (1, 2))
    assert one != other
    assert rewrite(one, new, mask).content == rewrite(other, new, mask).content


def test_nothing_of_a_png_but_picture_and_profile_survives() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", SECRET.decode())
    text.add_text("Comment", SECRET.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    content = written("PNG", pnginfo=text) + SECRET
    new = rewrite(content, *painted(content)[1:])
    assert_clean(new.content)
    places, names = 8, []
    while places < len(new.content):
        size, name = struct.unpack(">I4s", new.content[places : places + 8])
        names.append(name)
        places += size + 12
    assert set(names) == {b"IHDR", b"iCCP", b"IDAT", b"IEND"}


def test_nothing_of_a_tiff_but_picture_and_profile_survives() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        tags = [(700, 1, len(SECRET), SECRET, True), (270, 2, len(SECRET), SECRET, True)]
        file.write(PHOTO, photometric="rgb", iccprofile=PROFILE, subifds=1, extratags=tags, metadata=None)
        file.write(PHOTO[::2, ::2], photometric="rgb", subfiletype=1)
    content = buffer.getvalue() + SECRET
    new = rewrite(content, *painted(content)[1:])
    assert_clean(new.content)
    known = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 34675}
    assert set(opened(new.content).tag_v2) <= known


def test_nothing_of_a_gif_but_the_picture_survives() -> None:
    content = written("GIF", "P", comment=SECRET) + SECRET
    assert_clean(rewrite(content, *painted(content)[1:]).content)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "HEIF"])
def test_lossy_formats_are_encoded_anew_and_say_so(kind: str, orientation: int) -> None:
    xmp = b"<x>" + SECRET + b"</x>"
    content = written(kind, orientation=orientation, quality=90, xmp=xmp)
    _, after, mask = painted(content)
    new = rewrite(content, after, mask)
    assert not new.identical
    assert (opened(new.content).format, opened(new.content).info["icc_profile"]) == (kind, PROFILE)
    assert np.abs(decode(new.content).astype(int) - after).mean() < 4
    assert_clean(new.content)


DEEP = np.random.default_rng(0).integers(0, 65536, (160, 192, 4), dtype=np.uint16)


def deep_pixels(channels: int) -> ndarray:
    return DEEP[..., 0] if channels == 1 else np.ascontiguousarray(DEEP[..., :channels])


def rgb_first(pixels: ndarray) -> ndarray:
    """OpenCV's channels in the usual order, and back."""
    return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def assert_sixteen_bits_kept(content: bytes, channels: int, orientation: int) -> None:
    stored = deep_pixels(channels)
    upright = {1: stored, 3: np.rot90(stored, 2), 6: np.rot90(stored, -1)}[orientation]
    _, after, mask = painted(content)
    new = rewrite(content, after, mask)
    if content.startswith(b"II"):
        found = tifffile.imread(io.BytesIO(new.content))
    else:
        found = rgb_first(cv2.imdecode(np.frombuffer(new.content, np.uint8), cv2.IMREAD_UNCHANGED))
    grey = round(257 * (0.299 * 200 + 0.587 * 30 + 0.114 * 40))
    expected = upright.copy()
    expected[mask] = grey if channels == 1 else (200 * 257, 30 * 257, 40 * 257, 65535)[:channels]
    assert new.identical
    assert found.dtype == np.uint16
    assert (found == expected).all()
    assert opened(new.content).mode == opened(content).mode
    assert opened(new.content).info.get("icc_profile") == opened(content).info.get("icc_profile")
    assert_clean(new.content)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_of_sixteen_bits_keeps_them(channels: int, orientation: int) -> None:
    kind = {1: 0, 3: 2, 4: 6}[channels]
    assert_sixteen_bits_kept(sixteen_bit_png(deep_pixels(channels), kind, orientation), channels, orientation)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_sixteen_bits_keeps_them(compression: str | None, channels: int, orientation: int) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        deep_pixels(channels),
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else [],
        iccprofile=PROFILE,
        description=SECRET.decode(),
        compression=compression,
        extratags=[(274, "H", 1, orientation, False)],
    )
    assert_sixteen_bits_kept(buffer.getvalue(), channels, orientation)


@pytest.mark.parametrize("opacity", ["assocalpha", "unassalpha"])
def test_colours_of_sixteen_bits_stay_multiplied_by_their_opacity(opacity: str) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP, photometric="rgb", extrasamples=[opacity])
    before, after, mask = painted(buffer.getvalue())
    new = rewrite(buffer.getvalue(), after, mask).content
    assert opened(new).tag_v2[338] == opened(buffer.getvalue()).tag_v2[338]
    assert (decode(new)[~mask] == before[~mask]).all()
    assert (decode(new)[mask] == RED).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tiff_of_sixteen_bits_may_be_compressed_by_lzw(channels: int) -> None:
    content = cv2.imencode(".tiff", rgb_first(deep_pixels(channels)))[1].tobytes()
    assert opened(content).info["compression"] == "tiff_lzw"
    assert_sixteen_bits_kept(content, channels, 1)


def sixteen_bit_png(pixels: ndarray, kind: int, orientation: int = 1) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))
    profile = chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(PROFILE)) if kind > 0 else b""
    tags = chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    text = chunk(b"tEXt", b"Comment\0" + SECRET)
    picture = chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + profile + tags + text + picture


def test_grey_of_sixteen_bits_with_opacity_keeps_both() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (160, 192, 2), dtype=np.uint16)
    content = sixteen_bit_png(deep, 4)
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    found = cv2.imdecode(np.frombuffer(new.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (found[~mask][:, [0, 3]] == deep[~mask]).all()
    assert (found[mask][:, 3] == 65535).all()
    assert (decode(new.content)[~mask] == before[~mask]).all()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "AVIF", "HEIF"])
def test_an_animation_is_refused(kind: str) -> None:
    module._formats()
    frames = [Image.fromarray(np.roll(PHOTO, shift, 0)) for shift in (0, 40)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(Unreadable, match="2 pictures in one"):
        rewrite(buffer.getvalue(), *painted(buffer.getvalue())[1:])


def test_transparent_pixels_stay_transparent_and_masked_ones_become_opaque() -> None:
    image = Image.fromarray(PHOTO).convert("RGBA")
    image.putalpha(Image.fromarray(np.full(PHOTO.shape[:2], 100, np.uint8)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    _, after, mask = painted(buffer.getvalue())
    alpha = np.array(opened(rewrite(buffer.getvalue(), after, mask).content))[..., 3]
    assert (alpha[mask] == 255).all()
    assert (alpha[~mask] == 100).all()


@pytest.mark.parametrize(
    ("kind", "clear", "expected"),
    [("PNG", 0, (210, 40, 50)), ("GIF", 0, (210, 40, 50)), ("PNG", bytes([0, 128, 255, 0]), (0, 0, 255))],
)
def test_nothing_is_painted_with_a_palettes_transparent_colour(
    kind: str, clear: int | bytes, expected: tuple[int, int, int]
) -> None:
    image = Image.fromarray(np.tile(np.arange(4, dtype=np.uint8), (160, 48)))
    image.putpalette([*RED, 210, 40, 50, 0, 0, 255, 0, 255, 0])
    buffer = io.BytesIO()
    image.save(buffer, kind, transparency=clear)
    before, after, mask = painted(buffer.getvalue())
    shown = decode(rewrite(buffer.getvalue(), after, mask).content)
    assert (shown[mask] == expected).all()
    assert (shown[~mask] == before[~mask]).all()


def test_a_palette_without_an_opaque_colour_is_refused() -> None:
    buffer = io.BytesIO()
    PALETTE.save(buffer, "PNG", transparency=bytes(256))
    with pytest.raises(Unreadable, match="palette has no opaque colour"):
        rewrite(buffer.getvalue(), *painted(buffer.getvalue())[1:])


@pytest.mark.parametrize(("mode", "clear"), [("RGB", RED), ("L", 82), ("1", 0)])
def test_nothing_becomes_the_transparent_colour(mode: str, clear: object) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).convert(mode).save(buffer, "PNG", transparency=clear)
    before, after, mask = painted(buffer.getvalue())
    new = opened(rewrite(buffer.getvalue(), after, mask).content)
    assert (np.array(new.convert("RGBA"))[mask][:, 3] == 255).all()
    assert (decode(rewrite(buffer.getvalue(), after, mask).content)[~mask] == before[~mask]).all()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("TIFF", "RGBA"), ("PNG", "P")])
def test_without_a_mask_only_the_metadata_goes(kind: str, mode: str, orientation: int) -> None:
    content = written(kind, mode, orientation)
    before = decode(content)
    new = rewrite(content, np.zeros_like(before), np.zeros(before.shape[:2], bool))
    assert new.identical
    difference = np.abs(decode(new.content).astype(int) - before).max()
    assert difference <= (6 if kind == "JPEG" and orientation > 1 else 0)
    assert_clean(new.content)


def test_what_cannot_be_written_back_is_refused() -> None:
    jpeg = written("JPEG")
    place = jpeg.index(b"\xff\xc0")
    planes, separated = io.BytesIO(), io.BytesIO()
    deep = np.zeros((4, 160, 192), np.uint16)
    tifffile.imwrite(planes, deep[:3], photometric="rgb", planarconfig="separate")
    tifffile.imwrite(separated, deep.transpose(1, 2, 0).copy(), photometric="separated")
    for content, why in (
        (jpeg[: place + 4] + b"\x0c" + jpeg[place + 5 :], "not one of"),  # 12 bits
        (jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1), "broken data"),  # lossless coding
        (jpeg[:-400], "truncated"),
        (planes.getvalue(), "TIFF of mode RGB with 16 bits cannot be written back"),
        (separated.getvalue(), "cannot be written back|cannot identify|not one of"),
        (written("TIFF", "F"), "TIFF of mode F cannot be written back"),
        (written("TIFF", "LAB"), "TIFF of mode LAB cannot be written back"),
        (b"P5 192 160 65535 " + bytes(2 * 160 * 192), "PPM of mode I cannot be written back"),
    ):
        with pytest.raises(Unreadable, match=why):
            rewrite(content, PHOTO, np.ones(PHOTO.shape[:2], bool))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
def test_damage_is_refused_or_shows_nothing_under_the_mask(kind: str) -> None:
    content = written(kind, "P" if kind == "GIF" else "RGB", pixels=secrets(1, under=1))
    generator = np.random.default_rng(0)
    mask = np.zeros(PHOTO.shape[:2], bool)
    mask[BOX] = True
    red = np.full_like(PHOTO, RED)
    for _ in range(25):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[generator.integers(len(damaged), size=6)] ^= 16
        with contextlib.suppress(Unreadable):
            shown = decode(rewrite(damaged.tobytes(), red, mask).content)[BOX]
            assert shown[2:-2, 2:-2].std(axis=(0, 1)).max() < 2  # colour is smoothed over the edge; the noise has 74


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "deep"])
def test_nothing_is_left_below_what_is_transparent(kind: str) -> None:
    pixels = np.dstack([PHOTO, np.zeros(PHOTO.shape[:2], np.uint8)])
    pixels[150:, :, 3] = 255
    if kind == "deep":
        content = cv2.imencode(".png", pixels[..., [2, 1, 0, 3]].astype(np.uint16) * 257)[1].tobytes()
    else:
        buffer = io.BytesIO()
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        Image.fromarray(pixels).save(buffer, kind, **options)
        content = buffer.getvalue()
    shown = decode(content)
    new = rewrite(content, shown, np.zeros(shown.shape[:2], bool)).content
    found = cv2.imdecode(np.frombuffer(new, np.uint8), cv2.IMREAD_UNCHANGED)
    assert not found[:150].any()
    assert (decode(new) == shown).all()


def test_a_ppm_keeps_its_eight_bits_and_one_of_sixteen_is_refused() -> None:
    header = f"P6 # of two bytes?\n{PHOTO.shape[1]} {PHOTO.shape[0]}\n%d\n".encode()
    shallow, deep = (header % 255) + PHOTO.tobytes(), (header % 65535) + (PHOTO.astype(">u2") * 257).tobytes()
    before, after, mask = painted(shallow)
    assert (decode(rewrite(shallow, after, mask).content)[~mask] == before[~mask]).all()
    with pytest.raises(Unreadable, match="PPM of 16 bits"):
        rewrite(deep, *painted(deep)[1:])
