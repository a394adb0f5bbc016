"""A JPEG with some pixels replaced: the blocks that a mask does not touch keep their coefficients."""

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jpeglib
import numpy as np
from jaxtyping import Bool, Int16
from numpy import ndarray
from PIL import Image
from PIL.Image import Transpose
from PIL.JpegImagePlugin import JpegImageFile

from veil.faces.decode import Unreadable

# What a turn does, first to last: transpose, mirror across, mirror down
MOVES = {
    None: (False, False, False),
    Transpose.FLIP_LEFT_RIGHT: (False, True, False),
    Transpose.ROTATE_180: (False, True, True),
    Transpose.FLIP_TOP_BOTTOM: (False, False, True),
    Transpose.TRANSPOSE: (True, False, False),
    Transpose.ROTATE_270: (True, True, False),
    Transpose.TRANSVERSE: (True, True, True),
    Transpose.ROTATE_90: (True, False, True),
}
MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  # that a length follows, but for the two below
START, END = 0xD8, 0xD9
METADATA = (*range(0xE0, 0xF0), 0xFE)  # APP0 to APP15, comments
PROFILE_PART = 65519  # bytes of a profile in one segment

jpeglib.version.set("turbo210")  # the default, of 1998, reads no arithmetic coding
LOCK = threading.Lock()  # jpeglib has global variables


def replace_blocks(
    content: bytes, source: JpegImageFile, turn: Transpose | None, upright: Image.Image, mask: Bool[ndarray, "h w"]
) -> tuple[bytes, bool]:
    """`upright` as a JPEG with the tables and sampling of the file `content`, whose coefficients are taken over
    outside the blocks that the mask touches; and whether they could be: not where a turn mirrors blocks that the
    picture fills in part.

    Of one or three channels. A progressive file becomes a sequential one. Of all else in the file the colour profile
    alone is kept. Raises Unreadable.

    """
    transpose, across, down = MOVES[turn]
    with _workplace() as path:
        path.write_bytes(bare(content))
        before = jpeglib.read_dct(str(path))
        tables = before.qt[before.quant_tbl_no]  # one of 8 x 8 for each channel
        new = jpeglib.from_spatial(np.array(upright).reshape(upright.height, upright.width, -1))
        new.samp_factor = np.ascontiguousarray(before.samp_factor[:, ::-1] if transpose else before.samp_factor)
        new.jpeg_color_space = _colours(source)
        turned = np.ascontiguousarray(tables.swapaxes(1, 2) if transpose else tables)
        new.write_spatial(str(path), qt=turned, quant_tbl_no=np.arange(len(tables)))
        after = jpeglib.read_dct(str(path))
        side = 8 * new.samp_factor.max(axis=0)  # in px times sampling
        partial = ((upright.height, upright.width) * new.samp_factor % side > 0).any(axis=0)
        identical = not (partial & (down, across)).any()
        if identical:
            rows, columns = np.nonzero(mask)
            for name, (fine_down, fine_across) in zip(("Y", "Cb", "Cr"), new.samp_factor, strict=False):
                blocks, old = getattr(after, name), _moved(getattr(before, name), turn)
                keep = np.ones(blocks.shape[:2], bool)
                keep[rows * fine_down // side[0], columns * fine_across // side[1]] = False
                blocks[keep] = old[keep]
        after.jpeg_color_space = new.jpeg_color_space
        after.markers = _segments(source.info.get("icc_profile", b""))
        after.write_dct(str(path), flags=["OPTIMIZE_CODING"])
        return path.read_bytes(), identical


@contextmanager
def _workplace() -> Iterator[Path]:
    """A file for jpeglib to work on, in a folder that goes with all copies of the photo in it: those that jpeglib makes
    would stay where it fails. One at a time.
    """
    with LOCK, tempfile.TemporaryDirectory() as folder:
        inside = SimpleNamespace(NamedTemporaryFile=partial(tempfile.NamedTemporaryFile, dir=folder))
        jpeglib.dct_jpeg.tempfile = inside
        try:
            yield Path(folder, "photo.jpg")
        except OSError as error:
            raise Unreadable(f"a JPEG whose blocks cannot be taken over: {error.strerror or 'damaged'}") from error
        finally:
            jpeglib.dct_jpeg.tempfile = tempfile


def bare(content: bytes) -> bytes:
    """A JPEG's first picture without metadata, of whose segments jpeglib overruns its memory at the 51st.

    Raises ValueError of a file that does not end.
    """
    kept: list[bytes] = []
    start = place = 0
    while (marker := MARKER.search(content, place)) is not None:
        place, code = marker.start(), content[marker.end() - 1]
        if code == END:
            return b"".join((*kept, content[start : place + 2]))
        size = 2 if code == START else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if code in METADATA:
            kept.append(content[start:place])
            start = place + size
        place += size
    raise ValueError("a JPEG without an end")


def _colours(source: JpegImageFile) -> Any:
    """The colour space of the coefficients, as libjpeg tells it: jpeglib does not look at the Adobe segment."""
    space = jpeglib.Colorspace
    names = bytes(layer[0] for layer in source.layer)
    if len(names) == 1:
        return space.JCS_GRAYSCALE
    if "jfif" in source.info:
        return space.JCS_YCbCr
    if "adobe" in source.info:
        return space.JCS_RGB if source.info.get("adobe_transform") == 0 else space.JCS_YCbCr
    return space.JCS_RGB if names == b"RGB" else space.JCS_YCbCr


def _moved(blocks: Int16[ndarray, "rows columns 8 8"], turn: Transpose | None) -> Int16[ndarray, "i j 8 8"]:
    """The coefficients of a turned picture: in a mirrored one, odd frequencies change their sign."""
    transpose, across, down = MOVES[turn]
    moved = blocks.transpose(1, 0, 3, 2).copy() if transpose else blocks.copy()
    if across:
        moved = moved[:, ::-1].copy()
        moved[..., 1::2] *= -1
    if down:
        moved = moved[::-1].copy()
        moved[:, :, 1::2] *= -1
    return moved


def _segments(profile: bytes) -> list[Any]:
    """A colour profile in as many APP2 segments as it needs, numbered from 1 (ICC.1:2022, annex B.4)."""
    parts = [profile[place : place + PROFILE_PART] for place in range(0, len(profile), PROFILE_PART)]
    contents = [b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part for number, part in enumerate(parts, 1)]
    return [jpeglib.Marker(jpeglib.MarkerType.JPEG_APP2, len(content), content) for content in contents]
