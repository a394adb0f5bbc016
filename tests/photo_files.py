"""Photo files of every kind for the tests of what is written back."""

import io

import numpy as np
from numpy import ndarray
from PIL import ExifTags, Image, ImageCms
from skimage import data

from veil.faces import decode as module
from veil.faces.decode import TURNS, decode

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECRET = b"a secret place"
PHOTO = data.astronaut()[:160, 128:320]
BOX = (slice(64, 128), slice(32, 96))  # of the upright picture: whole blocks, also where colour is four times coarser
PALETTE = Image.fromarray(PHOTO).quantize(64)
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
    channels = b"\xff\xee\0\x0eadobe"  # how those of a JPEG are meant, which stays
    assert b"adobe" not in content.lower().replace(channels, b"")
    image = opened(content)
    assert dict(image.getexif()) == {} or image.format == "TIFF"
    names = ("exif", "xmp", "XML:com.adobe.xmp", "comment", "photoshop", "thumbnails", "Description")
    assert not any(image.info.get(name) for name in names)


def secrets(orientation: int, under: int) -> ndarray:
    """The stored picture with noise under the upright box."""
    places = Image.fromarray(np.arange(PHOTO[..., 0].size, dtype=np.int32).reshape(PHOTO.shape[:2]))
    upright = np.array(places.transpose(TURNS[orientation]) if orientation > 1 else places)
    stored = PHOTO.copy().reshape(-1, 3)
    stored[upright[BOX].ravel()] = np.random.default_rng(under).integers(0, 256, (upright[BOX].size, 3))
    return stored.reshape(PHOTO.shape)
