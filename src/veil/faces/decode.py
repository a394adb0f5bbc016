"""From an image file of any kind to upright 8-bit RGB."""

import functools
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF")  # none of which starts another program
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of phones' photos
INSTALL_HEIF = "photos in HEIC need `pip install 'veil[heif]'`"
MAX_BYTES = 2**28  # of one file: more is an attack or a mistake, not a photo
MAX_PIXELS = 100_000_000
BACKGROUND = "white"  # behind transparent pixels
TURNS = {  # EXIF orientation -> what makes it upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

# what zipfile and Pillow raise for damaged files
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


class Unreadable(Exception):
    """A file that is no photo; the message says why."""


class Photo(NamedTuple):
    """A photo before anything is read."""

    key: str  # unique in the data set
    person: str
    read: Callable[[], bytes]


def read_photo(read: Callable[[], bytes]) -> bytes:
    """The bytes of a photo. Raises Unreadable."""
    try:
        content = read()
    except DAMAGED as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    if len(content) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES / 2**20:.0f} MiB")
    return content


def image_format(content: bytes) -> str:
    """`JPEG`, `PNG` ..., by what the file holds, whatever its name says. Raises Unreadable.

    `MPO` is a JPEG with further pictures behind the first, as phones write for a preview or the depth.
    """
    with opened(content) as image:
        return "JPEG" if image.format == "MPO" else str(image.format)


def decode(content: bytes) -> UInt8[ndarray, "h w 3"]:
    """Pixels of an image file, upright by its EXIF, which is left behind; an animation's first frame.

    16 bits are scaled to 8, not clipped; transparent pixels are laid on white; CMYK is converted without a profile.
    Raises Unreadable.
    """
    with opened(content) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Unreadable(f"{image.width} x {image.height} px, more than {MAX_PIXELS / 1e6:.0f} Mpx")
        image.load()
        pixels = _rgb(image)
        turn = TURNS.get(orientation(image))
        return np.array(pixels if turn is None else pixels.transpose(turn))


@functools.cache
def _formats() -> tuple[str, ...]:
    """What can be read on this machine: HEIC is a package of its own."""
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        return FORMATS
    register_heif_opener(thumbnails=False)
    return (*FORMATS, "HEIF")


@contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """The image; what goes wrong while inside is Unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which is not used, and size, which is checked here
            with Image.open(io.BytesIO(content), formats=_formats()) as image:
                yield image
    except UnidentifiedImageError as error:  # whose message is the address of a buffer
        if content[4:8] == b"ftyp" and content[8:12] in HEIC and "HEIF" not in _formats():
            raise Unreadable(INSTALL_HEIF) from error
        raise Unreadable(f"not one of {', '.join(FORMATS)}, or damaged at its start") from error
    except DAMAGED as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        grey = np.asarray(image).astype(np.float64) / 257  # 65535 -> 255
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unreadable(f"mode {image.mode}: 32-bit pixels have no agreed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, BACKGROUND)
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """EXIF's, 1 (upright) where its EXIF is damaged: the picture is still good."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGED:
        return 1
