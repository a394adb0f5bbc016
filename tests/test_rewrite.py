"""Photo files with some pixels replaced: what stays, what goes."""

import contextlib
import io
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import pytest
import tifffile
from numpy import ndarray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from skimage import data

from veil.faces import decode as module
from veil.faces.decode import TURNS, Unreadable, decode
from veil.faces.rewrite import rewrite

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECRET = b"a secret place"
PHOTO = data.astronaut()[:160, 128:320]
BOX = (slice(64, 128), slice(32, 96))  # of the upright picture: whole blocks, also where colour is four times coarser
RED = (200, 30, 40)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.ImageDescription] = SECRET.decode()
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET
    return tags


def written(kind: str, mode: str = "RGB", orientation: int = 1, pixels: ndarray = PHOTO, **options: object) -> bytes:
    module._formats()  # registers what writes HEIC
    image = Image.fromarray(pixels)
    image = image.quantize(palette=PALETTE, dither=0) if mode == "P" else image.convert(mode, dither=0)
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif(orientation), icc_profile=PROFILE, **options)
    return buffer.getvalue()


PALETTE = Image.fromarray(PHOTO).quantize(64)


def spatial(
    folder: Path, sampling: list[list[int]], space: str = "YCbCr", pixels: ndarray = PHOTO, *flags: str
) -> bytes:
    """A JPEG that Pillow cannot write."""
    image = jpeglib.from_spatial(np.ascontiguousarray(pixels))
    image.samp_factor, image.jpeg_color_space = np.array(sampling), jpeglib.Colorspace[f"JCS_{space}"]
    tables = np.add.outer(np.array([3, 9, 17]), np.arange(64).reshape(8, 8))  # one for each channel, no two alike
    image.write_spatial(str(folder / "spatial.jpg"), qt=tables, quant_tbl_no=np.arange(3), flags=list(flags))
    return (folder / "spatial.jpg").read_bytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    body = exif(orientation).tobytes()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def painted(content: bytes) -> tuple[ndarray, ndarray, ndarray]:
    """The upright picture, the same with a red box, and where that is."""
    before = decode(content)
    mask = np.zeros(before.shape[:2], bool)
    mask[BOX] = True
    after = before.copy()
    after[mask] = RED
    return before, after, mask


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def in_mode(pixels: ndarray, mode: str) -> ndarray:
    return np.array(Image.fromarray(pixels).convert({"RGBA": "RGB", "LA": "L"}.get(mode, mode)).convert("RGB"))


def assert_clean(content: bytes) -> None:
    assert SECRET not in content
    assert b"Exif" not in content
    assert b"adobe" not in content.lower().replace(
        b"\xff\xee\0\x0eadobe", b""
    )  # but for how a JPEG's channels are meant
    image = opened(content)
    assert dict(image.getexif()) == {} or image.format == "TIFF"
    names = ("exif", "xmp", "XML:com.adobe.xmp", "comment", "photoshop", "thumbnails", "Description")
    assert not any(image.info.get(name) for name in names)


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


SAMPLINGS = {"4:4:4": [[1, 1]] * 3, "4:4:0": [[2, 1], [1, 1], [1, 1]], "4:1:1": [[1, 4], [1, 1], [1, 1]]}
ODD = {"crossed": [[2, 2], [2, 1], [1, 2]]}


def assert_blocks_kept(content: bytes, orientation: int, mode: str = "RGB") -> bytes:
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    shown = decode(new.content)
    # the box is whole blocks, but colour is smoothed over their edges when it is shown
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool)
    far = np.abs(shown.astype(int) - before)[~near]
    assert new.identical
    assert far.max() <= (0 if orientation == 1 else 6)  # the inverse transform rounds a turned block another way
    assert (far > 2).mean() < 0.01
    assert np.abs(shown[mask].astype(int) - in_mode(after, mode)[mask]).mean() < 8
    assert_clean(new.content)
    return new.content


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("mode", "subsampling"), [("L", 0), ("L", 2), ("RGB", 0), ("RGB", 1), ("RGB", 2)])
def test_untouched_blocks_of_a_jpeg_are_kept(mode: str, subsampling: int, orientation: int) -> None:
    content = written("JPEG", mode, orientation, quality=80, subsampling=subsampling)
    found = opened(assert_blocks_kept(content, orientation, mode))
    assert (found.format, found.mode, found.info["icc_profile"]) == ("JPEG", mode, PROFILE)


@pytest.mark.parametrize("orientation", [1, 2, 6, 7])
@pytest.mark.parametrize("name", [*SAMPLINGS, *ODD])
@pytest.mark.parametrize("space", ["YCbCr", "RGB"])
def test_a_jpeg_keeps_tables_sampling_and_colour_space(space: str, name: str, orientation: int, tmp_path: Path) -> None:
    content = with_orientation(spatial(tmp_path, (SAMPLINGS | ODD)[name], space), orientation)
    new = assert_blocks_kept(content, orientation)
    before, after = opened(content), opened(new)
    assert after.info.get("adobe_transform") == before.info.get("adobe_transform")
    turned = orientation > 4
    for mine, theirs in zip(after.layer, before.layer, strict=True):
        assert mine[1:3] == (theirs[1:3][::-1] if turned else theirs[1:3])
        one, other = (
            np.reshape(image.quantization[layer[3]], (8, 8)) for image, layer in ((after, mine), (before, theirs))
        )
        assert (one == (other.T if turned else other)).all()


@pytest.mark.parametrize("flag", ["ARITH_CODE", "PROGRESSIVE_MODE"])
def test_a_jpeg_of_another_coding_becomes_a_sequential_one(flag: str, tmp_path: Path) -> None:
    content = spatial(tmp_path, [[2, 2], [1, 1], [1, 1]], "YCbCr", PHOTO, flag)
    assert b"\xff\xc0" in assert_blocks_kept(content, 1)


def test_a_jpeg_in_rgb_without_an_adobe_segment_is_known_by_its_channels_names() -> None:
    content = written("JPEG", quality=90, keep_rgb=True)
    place = content.index(b"\xff\xee")
    assert_blocks_kept(content[:place] + content[place + 16 :], 1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_in_cmyk_is_encoded_anew(orientation: int) -> None:
    content = written("JPEG", "CMYK", orientation, quality=80)
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    shown = decode(new.content).astype(int)
    assert not new.identical
    assert opened(new.content).mode == "CMYK"
    assert opened(new.content).info["icc_profile"] == PROFILE
    assert np.abs(shown - before)[~mask].mean() < 2
    assert np.abs(shown[mask] - RED).mean() < 2
    assert_clean(new.content)


@pytest.mark.parametrize("size", [(159, 185), (8, 8), (1, 1), (17, 3)])
def test_a_jpeg_of_odd_size(size: tuple[int, int]) -> None:
    content = written("JPEG", pixels=PHOTO[: size[0], : size[1]])
    before = decode(content)
    mask = np.zeros(size, bool)
    mask[size[0] // 2, size[1] // 2] = True
    new = rewrite(content, before, mask)
    assert new.identical
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((37, 37))).astype(bool)
    assert (decode(new.content)[far] == before[far]).all()


@pytest.mark.parametrize(
    ("orientation", "identical"), [(1, True), (2, False), (4, False), (5, True), (6, False), (8, False)]
)
def test_a_turn_that_mirrors_parts_of_blocks_encodes_anew(orientation: int, identical: bool) -> None:
    content = written("JPEG", orientation=orientation, pixels=PHOTO[:155, :181], quality=90)
    _, after, mask = painted(content)
    new = rewrite(content, after, mask)
    assert new.identical == identical
    assert np.abs(decode(new.content).astype(int) - after)[~mask].mean() < 3


def test_a_turn_minds_only_the_side_that_it_mirrors() -> None:
    content = written("JPEG", orientation=6, pixels=PHOTO[:, :181])  # mirrored is what was down: 160 px
    assert rewrite(content, *painted(content)[1:]).identical


def secrets(orientation: int, under: int) -> ndarray:
    """The stored picture with noise under the upright box."""
    places = Image.fromarray(np.arange(PHOTO[..., 0].size, dtype=np.int32).reshape(PHOTO.shape[:2]))
    upright = np.array(places.transpose(TURNS[orientation]) if orientation > 1 else places)
    stored = PHOTO.copy().reshape(-1, 3)
    stored[upright[BOX].ravel()] = np.random.default_rng(under).integers(0, 256, (upright[BOX].size, 3))
    return stored.reshape(PHOTO.shape)


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


def test_nothing_of_a_jpeg_but_picture_and_profile_survives() -> None:
    profile = PROFILE + bytes(range(256)) * 600  # more than two segments hold
    thumbnail = io.BytesIO()
    Image.fromarray(PHOTO[::2, ::2]).save(thumbnail, "JPEG")
    first, second = Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1].copy())
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second], icc_profile=profile, comment=SECRET)
    content = buffer.getvalue()
    segments = b"".join(
        b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body
        for code, body in [
            (0xE1, b"Exif\0\0" + thumbnail.getvalue()),
            (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET),
            (0xED, b"Photoshop 3.0\0" + SECRET),
            *((0xFE, SECRET) for _ in range(60)),  # more than jpeglib holds
            *((0xE9, SECRET) for _ in range(60)),
        ]
    )
    end = content.rindex(b"\xff\xd9")
    scan = content.index(b"\xff\xda")
    tail = b"\0\0\0\x18ftypmp42" + SECRET  # as of a motion photo
    content = content[:scan] + segments + content[scan : end + 2] + tail
    assert opened(content).format == "MPO"
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((37, 37))).astype(bool)
    assert new.identical
    assert (decode(new.content)[far] == before[far]).all()
    assert opened(new.content).info["icc_profile"] == profile
    assert opened(new.content).format == "JPEG"
    assert_clean(new.content)
    assert new.content.count(b"\xff\xd8") == new.content.count(b"\xff\xd9") == 1
    assert b"MPF" not in new.content
    assert new.content.endswith(b"\xff\xd9")
    assert new.content.count(b"JFIF") == 1


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


def test_no_copy_of_a_photo_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written("JPEG")
    _, after, mask = painted(content)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert rewrite(content, after, mask).identical
    assert not list(tmp_path.iterdir())

    def fail(**_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(jpeglib.dct_jpeg.CJpegLib, "read_jpeg_dct", fail)
    with pytest.raises(Unreadable, match="a JPEG whose blocks cannot be taken over: damaged"):
        rewrite(content, after, mask)
    assert not list(tmp_path.iterdir())
