"""A photo file with some pixels replaced: its own format, depth and colour profile, and no other metadata."""

import io
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jpeglib
import numpy as np
import tifffile
from jaxtyping import Bool, UInt8
from numpy import ndarray
from PIL import Image, JpegImagePlugin
from PIL.Image import Transpose

from veil.faces.decode import TURNS, Unreadable, opened, orientation

Mask = Bool[ndarray, "h w"]
JPEGS, DEEP = ("JPEG", "MPO"), ("PNG", "TIFF")  # the latter may hold 16 bits a channel, which Pillow reads as 8
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
QUALITY = 95  # where a lossy format must be encoded anew as a whole
# What is done to the blocks of a JPEG, first to last, to turn it as its EXIF says: transpose, mirror across, mirror down
MOVES = {
    Transpose.FLIP_LEFT_RIGHT: (False, True, False),
    Transpose.ROTATE_180: (False, True, True),
    Transpose.FLIP_TOP_BOTTOM: (False, False, True),
    Transpose.TRANSPOSE: (True, False, False),
    Transpose.ROTATE_270: (True, True, False),
    Transpose.TRANSVERSE: (True, True, True),
    Transpose.ROTATE_90: (True, False, True),
}


class Rewritten(NamedTuple):
    """The new file, and how the pixels outside the mask fared."""

    content: bytes
    identical: bool  # of a JPEG: outside the blocks of 8 or 16 px that the mask touches


def rewrite(content: bytes, pixels: UInt8[ndarray, "h w 3"], mask: Mask) -> Rewritten:
    """The photo file `content` with `pixels` where `mask` is True, upright.

    Of a JPEG the coefficients of the blocks that the mask does not touch are taken over, turned where its EXIF turns
    it; where its sides are no whole blocks, a turned one is encoded anew, as a lossy WebP, AVIF or HEIC is. What is
    masked becomes opaque. New pixels of a palette's picture have its nearest colours.

    Args:
        pixels, mask: of the upright photo, as `decode` gives it.

    Raises Unreadable for an animation, or several pages, whose other pictures may show faces too, and for a mode that
    cannot be written back.

    """
    with opened(content) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format not in JPEGS:
            raise Unreadable(f"{image.n_frames} pictures in one {image.format}: the others may show faces too")
        image.load()
        turn = TURNS.get(orientation(image))
        if image.format in JPEGS:
            return _jpeg(content, image, turn, pixels, mask)
        if image.format in DEEP and (deep := _deep(content, str(image.format))) is not None:
            return Rewritten(_write_deep(_replaced_deep(_turned(deep, turn), pixels, mask), image), True)
        if image.mode not in MODES:
            raise Unreadable(f"{image.format} of mode {image.mode} cannot be written back")
        return _encoded(_replaced(image if turn is None else image.transpose(turn), pixels, mask), image, content)


def _replaced(image: Image.Image, pixels: UInt8[ndarray, "h w 3"], mask: Mask) -> Image.Image:
    """In the image's own mode."""
    new = Image.fromarray(pixels)
    if image.mode == "P":
        new = new.quantize(palette=image.convert("RGB").quantize(256) if image.palette is None else _opaque(image))
    else:
        new = new.convert(image.mode)
    image.paste(new, mask=Image.fromarray(mask))
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """A picture with the same palette in which the transparent colour, if any, is the first one: nothing becomes it."""
    palette = Image.new("P", (1, 1))
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    clear = image.info.get("transparency")
    if isinstance(clear, int) and clear < len(colours):
        colours[clear] = colours[0 if clear else -1]
    elif isinstance(clear, bytes):
        hidden = np.flatnonzero(np.frombuffer(clear, np.uint8)[: len(colours)] < 255)
        solid = np.setdiff1d(np.arange(len(colours)), hidden)
        colours[hidden] = colours[solid[0]] if len(solid) else 0
    palette.putpalette(colours.tobytes())
    return palette


def _encoded(new: Image.Image, source: Image.Image, content: bytes) -> Rewritten:
    """By Pillow; the picture's own colour profile and transparent colour are all that is taken from its information."""
    kind, identical = str(source.format), True
    options: dict[str, Any] = {"icc_profile": source.info.get("icc_profile")}
    if kind == "WEBP":
        identical = b"VP8L" in content[:64]
        options |= {"lossless": True, "exact": True} if identical else {"quality": QUALITY}
    if kind in ("AVIF", "HEIF"):
        identical, options["quality"] = False, QUALITY
    if kind == "TIFF":
        options["compression"] = "tiff_lzw"
    if kind in ("PNG", "GIF"):
        options["transparency"] = source.info.get("transparency")
    new.info = {}
    buffer = io.BytesIO()
    new.save(buffer, kind, **{name: value for name, value in options.items() if value is not None})
    return Rewritten(buffer.getvalue(), identical)


def _deep(content: bytes, kind: str) -> ndarray | None:
    """Pixels of 16 bits `(h, w)` or `(h, w, channels)`, RGB first; None of a picture of 8."""
    if kind == "TIFF":
        deep = tifffile.imread(io.BytesIO(content))
    else:
        deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        deep = deep[..., [2, 1, 0, 3][: deep.shape[2]]] if deep is not None and deep.ndim == 3 else deep
    if deep is None or deep.dtype != np.uint16:
        return None
    if deep.ndim > 3 or (deep.ndim == 3 and deep.shape[2] not in (3, 4)):
        raise Unreadable(f"{kind} of 16 bits in the shape {deep.shape} cannot be written back")
    return deep


def _turned(pixels: ndarray, turn: Transpose | None) -> ndarray:
    if turn is None:
        return pixels
    transpose, across, down = MOVES[turn]
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def _replaced_deep(deep: ndarray, pixels: UInt8[ndarray, "h w 3"], mask: Mask) -> ndarray:
    new, deep = pixels.astype(np.uint16) * 257, deep.copy()
    if deep.ndim == 2:
        deep[mask] = (new @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint16)[mask]
    else:
        deep[..., :3][mask] = new[mask]
        deep[..., 3:][mask] = 65535
    return deep


def _write_deep(deep: ndarray, source: Image.Image) -> bytes:
    profile = source.info.get("icc_profile")
    if source.format == "TIFF":
        buffer = io.BytesIO()
        extra = ["unassalpha"] if deep.ndim == 3 and deep.shape[2] == 4 else []
        kind = "rgb" if deep.ndim == 3 else "minisblack"
        tifffile.imwrite(
            buffer, deep, photometric=kind, extrasamples=extra, iccprofile=profile, metadata=None, software=False
        )
        return buffer.getvalue()
    deep = deep[..., [2, 1, 0, 3][: deep.shape[2]]] if deep.ndim == 3 else deep
    held = [(cv2.IMAGE_METADATA_ICCP, np.frombuffer(profile, np.uint8))] if profile else []
    _, encoded = cv2.imencodeWithMetadata(".png", deep, [kind for kind, _ in held], [data for _, data in held])
    return encoded.tobytes()


def _jpeg(
    content: bytes, image: Image.Image, turn: Transpose | None, pixels: UInt8[ndarray, "h w 3"], mask: Mask
) -> Rewritten:
    """Encode the whole upright picture with the file's own tables, then take over what was not touched."""
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    upright = _replaced(image if turn is None else image.transpose(turn), pixels, mask)
    upright.info = {}
    transpose = turn is not None and MOVES[turn][0]
    tables = {key: _table(values, transpose) for key, values in image.quantization.items()}
    sampling = JpegImagePlugin.get_sampling(image)
    buffer = io.BytesIO()
    upright.save(
        buffer,
        "JPEG",
        qtables=tables,
        subsampling=0 if sampling == -1 or (transpose and sampling == 1) else sampling,  # Pillow knows no 4:4:0
        icc_profile=image.info.get("icc_profile"),
        progressive="progressive" in image.info,
    )
    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder, "old.jpg"), Path(folder, "new.jpg")
        old.write_bytes(content)
        new.write_bytes(buffer.getvalue())
        before, after = jpeglib.read_dct(str(old)), jpeglib.read_dct(str(new))
        identical = _take_over(before, after, turn, mask)
        if identical:
            after.write_dct(str(new))
        return Rewritten(new.read_bytes(), identical)


def _table(values: Any, transpose: bool) -> list[int]:
    table = np.array(values).reshape(8, 8)
    return (table.T if transpose else table).ravel().tolist()


def _take_over(before: Any, after: Any, turn: Transpose | None, mask: Mask) -> bool:
    """Put the coefficients of the blocks of `before` that the mask does not touch into `after`. Gives whether they fit:
    the same components and blocks, and for a turn no block that the picture fills in part.
    """
    names = [name for name in ("Y", "Cb", "Cr", "K") if getattr(before, name) is not None]
    if names != [name for name in ("Y", "Cb", "Cr", "K") if getattr(after, name) is not None]:
        return False
    unit = 8 * np.array(before.samp_factor).max(axis=0)  # px down and across that the coarsest component's block has
    if turn is not None and (before.height % unit[0] or before.width % unit[1]):
        return False
    moved = {name: _moved(getattr(before, name), turn) for name in names}
    if any(moved[name].shape != getattr(after, name).shape for name in names):
        return False
    for name in names:
        blocks = getattr(after, name)
        touched = _touched(mask, blocks.shape[:2], getattr(after, names[0]).shape[:2])
        blocks[~touched] = moved[name][~touched]
    return True


def _moved(blocks: ndarray, turn: Transpose | None) -> ndarray:
    """Blocks of coefficients `(rows, columns, 8, 8)` of a turned picture: in a mirrored one, odd frequencies change
    their sign.
    """
    if turn is None:
        return blocks
    transpose, across, down = MOVES[turn]
    moved = np.array(blocks.transpose(1, 0, 3, 2) if transpose else blocks)
    if across:
        moved = moved[:, ::-1].copy()
        moved[..., 1::2] *= -1
    if down:
        moved = moved[::-1].copy()
        moved[:, :, 1::2] *= -1
    return moved


def _touched(mask: Mask, blocks: tuple[int, int], finest: tuple[int, int]) -> Bool[ndarray, "rows columns"]:
    """Of a component's blocks, which have a masked pixel; `finest` are the blocks of the picture in full."""
    rows, columns = (8 * round(fine / own) for fine, own in zip(finest, blocks, strict=True))
    padded = np.zeros((blocks[0] * rows, blocks[1] * columns), bool)
    height, width = min(mask.shape[0], padded.shape[0]), min(mask.shape[1], padded.shape[1])
    padded[:height, :width] = mask[:height, :width]
    return padded.reshape(blocks[0], rows, blocks[1], columns).any(axis=(1, 3))
