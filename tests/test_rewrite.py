"""Photo files with some pixels replaced: what stays, what goes."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from numpy import ndarray
from PIL import ExifTags, Image, ImageCms
from skimage import data

from veil.faces.decode import Unreadable, decode
from veil.faces.rewrite import rewrite

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECRET = b"a secret place"
PHOTO = data.astronaut()[:304, :448]
BOX = (slice(96, 160), slice(40, 120))  # of the upright picture


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.ImageDescription] = SECRET.decode()
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET
    return tags


def written(kind: str, mode: str = "RGB", orientation: int = 1, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).convert(mode).save(buffer, kind, exif=exif(orientation), icc_profile=PROFILE, **options)
    return buffer.getvalue()


def painted(content: bytes) -> tuple[ndarray, ndarray, ndarray]:
    """The upright picture, the same with a red box, and where that is."""
    before = decode(content)
    mask = np.zeros(before.shape[:2], bool)
    mask[BOX] = True
    after = before.copy()
    after[mask] = (200, 30, 40)
    return before, after, mask


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


LOSSLESS = [
    *((kind, mode) for kind in ("PNG", "TIFF") for mode in ("L", "LA", "RGB", "RGBA", "P", "1")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ("TIFF", "CMYK"),
]


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(("kind", "mode"), LOSSLESS)
def test_other_pixels_format_mode_and_profile_are_kept(kind: str, mode: str, orientation: int) -> None:
    content = written(kind, mode, orientation, **({"lossless": True} if kind == "WEBP" else {}))
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    found, shown = opened(new.content), decode(new.content)
    assert new.identical
    assert (shown[~mask] == before[~mask]).all()
    expected = np.array(Image.fromarray(after).convert(mode if mode not in ("P", "RGBA", "LA") else "RGB").convert("RGB"))
    if mode == "LA":
        expected = np.array(Image.fromarray(after).convert("L").convert("RGB"))
    if mode != "P":
        assert (shown[mask] == expected[mask]).all()
    else:  # the palette's nearest colour
        assert np.abs(shown[mask].astype(int) - (200, 30, 40)).mean() < 60
    assert (found.format, found.mode) == (kind, opened(content).mode)
    assert found.info["icc_profile"] == PROFILE
    assert not found.getexif().get(ExifTags.Base.Orientation)
    assert SECRET not in new.content


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_untouched_blocks_of_a_jpeg_are_kept(mode: str, subsampling: int, orientation: int) -> None:
    content = written("JPEG", mode, orientation, quality=80, subsampling=subsampling)
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    shown = decode(new.content)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((37, 37))).astype(bool)  # a block of 16 px and the chroma beside it
    far = np.abs(shown.astype(int) - before)[~near]
    transposed = orientation in (5, 6, 7, 8)
    if transposed and subsampling == 1 and mode != "L":
        assert not new.identical  # Pillow cannot write 4:4:0
        assert far.mean() < 3
    else:
        assert new.identical
        # the inverse transform rounds a turned block another way
        assert far.max() <= (0 if orientation == 1 else 8 if mode == "CMYK" else 5)
        assert (far > 2).mean() < 0.01
    assert np.abs(shown[mask].astype(int) - after[mask]).mean() < 8
    found = opened(new.content)
    assert (found.format, found.mode, found.info["icc_profile"]) == ("JPEG", mode, PROFILE)
    assert SECRET not in new.content
    assert b"Exif" not in new.content


def test_a_jpeg_of_odd_size_and_a_progressive_one() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO[:299, :441]).save(buffer, "JPEG", progressive=True)
    before, after, mask = painted(buffer.getvalue())
    new = rewrite(buffer.getvalue(), after, mask)
    assert new.identical
    assert opened(new.content).info["progressive"]
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((37, 37))).astype(bool)
    assert (decode(new.content)[far] == before[far]).all()


def test_a_turned_jpeg_of_odd_size_is_encoded_anew() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO[:299, :441]).save(buffer, "JPEG", exif=exif(6))
    before, after, mask = painted(buffer.getvalue())
    new = rewrite(buffer.getvalue(), after, mask)
    assert not new.identical
    assert np.abs(decode(new.content).astype(int) - after).mean() < 3


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_sixteen_bits_stay_sixteen(kind: str, channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (200, 160, channels), dtype=np.uint16)
    if kind == ".png":
        content = cv2.imencode(".png", deep)[1].tobytes()
    else:
        buffer = io.BytesIO()
        kinds = {1: "minisblack", 3: "rgb", 4: "rgb"}
        tifffile.imwrite(buffer, deep.squeeze(), photometric=kinds[channels], iccprofile=PROFILE, description="secret")
        content = buffer.getvalue()
    _, after, mask = painted(content)
    new = rewrite(content, after, mask)
    found = cv2.imdecode(np.frombuffer(new.content, np.uint8), cv2.IMREAD_UNCHANGED)
    original = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    assert (found[~mask] == original[~mask]).all()
    assert (found[mask] != original[mask]).any()
    if kind == ".tiff":
        assert opened(new.content).info["icc_profile"] == PROFILE
        assert b"secret" not in new.content


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_lossy_formats_are_encoded_anew_and_say_so(kind: str) -> None:
    content = written(kind, quality=80)
    before, after, mask = painted(content)
    new = rewrite(content, after, mask)
    assert not new.identical
    assert opened(new.content).format == kind
    assert np.abs(decode(new.content).astype(int) - after).mean() < 4
    assert SECRET not in new.content


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_an_animation_is_refused(kind: str) -> None:
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
