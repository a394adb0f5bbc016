"""A photo file with some pixels replaced: its own format, depth and colour profile, and no other metadata."""

import io
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile
from jaxtyping import Bool, UInt8, UInt16
from numpy import ndarray
from PIL import Image
from PIL.Image import Transpose
from PIL.JpegImagePlugin import JpegImageFile
from scipy.spatial import cKDTree

from veil.faces.decode import TURNS, Unreadable, opened, orientation
from veil.faces.jpeg import MOVES, replace_blocks

Mask = Bool[ndarray, "h w"]
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
QUALITY = 95  # where a lossy format is encoded anew as a whole
LOSSLESS = ("BMP", "GIF", "PNG", "PPM", "TIFF")
BITS, PHOTOMETRIC, PLANES, OPACITY = 258, 262, 284, 338  # TIFF's tags
GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601, as Pillow has it


class Rewritten(NamedTuple):
    """The new file, and how the pixels outside the mask fared."""

    content: bytes
    identical: bool  # of a JPEG: outside the blocks of 8 px (16 or more, where colour is coarser) that the mask touches


def rewrite(content: bytes, pixels: UInt8[ndarray, "h w 3"], mask: Mask) -> Rewritten:
    """The photo file `content` with `pixels` where `mask` is True, upright.

    Of a JPEG the coefficients of the blocks that the mask does not touch are taken over, turned where its EXIF turns
    it. Encoded anew as a whole are a JPEG that a turn mirrors and whose side is no whole number of blocks, one in
    CMYK, a lossy WebP, AVIF and HEIC. What is masked becomes opaque; in a picture with a palette it has the nearest of
    its colours.

    Args:
        pixels, mask: of the upright photo, as `decode` gives it.

    Raises Unreadable for an animation, or several pages, whose other pictures may show faces too, and for a mode that
    cannot be written back.

    """
    with opened(content) as image:
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        frames = getattr(image, "n_frames", 1)
        if kind != "JPEG" and frames > 1:
            raise Unreadable(f"{frames} pictures in one {kind}: the others may show faces too")
        image.load()  # which turns a TIFF
        turn = TURNS.get(orientation(image))
        if (deep := _deep(content, image, turn)) is not None:
            return Rewritten(_write_deep(_replaced_deep(deep, pixels, mask), image), True)
        if image.mode not in MODES:
            raise Unreadable(f"{kind} of mode {image.mode} cannot be written back")
        new = _replaced(image.copy() if turn is None else image.transpose(turn), pixels, mask)
        if isinstance(image, JpegImageFile) and image.mode != "CMYK":
            return Rewritten(*replace_blocks(content, image, turn, new, mask))
        lossless = kind in LOSSLESS or (kind == "WEBP" and _is_lossless(content))
        return Rewritten(_encoded(new, image, kind, lossless), lossless)


def _replaced(image: Image.Image, pixels: UInt8[ndarray, "h w 3"], mask: Mask) -> Image.Image:
    """In the image's own mode."""
    clear = image.info.get("transparency")  # a colour, or of a palette one place or the opacity of each
    if image.mode == "P":
        new = Image.fromarray(_nearest(image, pixels))
    else:
        new = Image.fromarray(pixels).convert(image.mode)
        if clear is not None:  # nothing may become the transparent colour
            levels = np.array(new)
            hit = (levels == np.array(clear, levels.dtype)).reshape(*mask.shape, -1).all(axis=-1)
            levels[hit] ^= levels.dtype.type(1)
            new = Image.fromarray(levels)
    image.paste(new, mask=Image.fromarray(mask))
    return image


def _nearest(image: Image.Image, pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "h w"]:
    """The places of the nearest opaque colours in the image's palette."""
    colours = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    clear = image.info.get("transparency", b"")
    opacity = colours[:, 3]
    if isinstance(clear, int):
        opacity[clear : clear + 1] = 0
    else:
        opacity[: len(clear)] = np.frombuffer(clear, np.uint8)[: len(opacity)]
    solid = np.flatnonzero(opacity == 255)
    if not len(solid):
        raise Unreadable(f"{image.format}'s palette has no opaque colour to paint with")
    return solid[cKDTree(colours[solid, :3]).query(pixels)[1]].astype(np.uint8)


def _encoded(new: Image.Image, source: Image.Image, kind: str, lossless: bool) -> bytes:
    """By Pillow; the picture's own colour profile and transparent colour are all that is taken from its information."""
    options: dict[str, Any] = {"icc_profile": source.info.get("icc_profile")}
    if kind == "WEBP":
        options |= {"lossless": lossless, "exact": True}
    if not lossless:
        options["quality"] = QUALITY
    if isinstance(source, JpegImageFile):
        options |= {"qtables": source.quantization, "subsampling": 0}
    if kind == "TIFF":
        options["compression"] = "tiff_lzw"
    if kind in ("PNG", "GIF"):
        options["transparency"] = source.info.get("transparency")
    new.info = {}
    buffer = io.BytesIO()
    new.save(buffer, kind, **{name: value for name, value in options.items() if value is not None})
    return buffer.getvalue()


def _is_lossless(webp: bytes) -> bool:
    """Whether the picture is in a chunk `VP8L` (RFC 9649)."""
    place = 12
    while webp[place : place + 4] not in (b"VP8 ", b"VP8L", b""):
        size = int.from_bytes(webp[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return webp[place : place + 4] == b"VP8L"


def _deep(content: bytes, image: Image.Image, turn: Transpose | None) -> UInt16[ndarray, "h w *channels"] | None:
    """Pixels of 16 bits, upright, of one channel or RGB with or without opacity, all of which Pillow reads as 8. None
    of a picture of 8.
    """
    tags = getattr(image, "tag_v2", {})
    if not (image.format == "PNG" and content[24] == 16) and 16 not in tags.get(BITS, ()):
        return None
    deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    channels = None if deep is None else deep.shape[2] if deep.ndim == 3 else 1
    plain = tags.get(PHOTOMETRIC, 1) in (1, 2) and tags.get(PLANES, 1) == 1 and channels == len(image.getbands())
    if deep is None or deep.dtype != np.uint16 or (tags and not plain):
        raise Unreadable(f"{image.format} of mode {image.mode} with 16 bits cannot be written back")
    deep = deep[..., [2, 1, 0, 3][:channels]] if deep.ndim == 3 else deep
    transpose, across, down = MOVES[None if tags else turn]  # OpenCV turns a TIFF itself
    deep = deep.swapaxes(0, 1) if transpose else deep
    return deep[:: -1 if down else 1, :: -1 if across else 1].copy()


def _replaced_deep(
    deep: UInt16[ndarray, "h w *channels"], pixels: UInt8[ndarray, "h w 3"], mask: Mask
) -> UInt16[ndarray, "h w *channels"]:
    new = pixels[mask].astype(np.uint16) * 257  # 255 -> 65535
    if deep.ndim == 2:
        deep[mask] = (new @ GREY).round()
    else:
        deep[mask] = np.insert(new, 3, 65535, axis=1)[:, : deep.shape[2]]
    return deep


def _write_deep(deep: UInt16[ndarray, "h w *channels"], source: Image.Image) -> bytes:
    profile = source.info.get("icc_profile")
    if source.format == "TIFF":
        buffer = io.BytesIO()
        opacity = "assocalpha" if source.tag_v2.get(OPACITY) == (1,) else "unassalpha"  # type: ignore[attr-defined]
        tifffile.imwrite(
            buffer,
            deep,
            photometric="rgb" if deep.ndim == 3 else "minisblack",
            extrasamples=[opacity] if deep.ndim == 3 and deep.shape[2] == 4 else [],
            compression="zlib",
            predictor=True,
            iccprofile=profile,
            metadata=None,  # no description
            software=False,
        )
        return buffer.getvalue()
    deep = deep[..., [2, 1, 0, 3][: deep.shape[2]]] if deep.ndim == 3 else deep
    held = [(cv2.IMAGE_METADATA_ICCP, np.frombuffer(profile, np.uint8))] if profile else []
    _, encoded = cv2.imencodeWithMetadata(".png", deep, [kind for kind, _ in held], [data for _, data in held])
    return encoded.tobytes()
