"""Images as pixels and files."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageDraw

from veil.types import Images, Masks, field_box, view_box

JPEG_QUALITY = 95


def to_pixels(images: Images) -> UInt8[ndarray, "b h w 3"]:
    """8-bit RGB."""
    return (images.detach() * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_images(pixels: UInt8[ndarray, "b h w 3"]) -> Images:
    """RGB in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def as_saved(images: Images, image_format: str) -> Images:
    """What a reader of the file gets: 8 bits a channel, and JPEG's losses where that is the format."""
    pixels = to_pixels(images)
    if image_format == "jpg":
        pixels = np.stack([np.array(Image.open(io.BytesIO(_encode(face, "jpg")))) for face in pixels])
    return to_images(pixels).to(images.device)


def save(pixels: UInt8[ndarray, "h w 3"] | UInt8[ndarray, "h w"], path: Path) -> None:
    """Write an image in the format of its suffix, without metadata."""
    path.write_bytes(_encode(pixels, path.suffix.removeprefix(".")))


def _encode(pixels: ndarray, image_format: str) -> bytes:
    buffer = io.BytesIO()
    if image_format == "jpg":
        Image.fromarray(pixels).save(buffer, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    else:  # at level 6, Pillow's own, a face takes 25 ms for 6 % less
        Image.fromarray(pixels).save(buffer, image_format, compress_level=3)
    return buffer.getvalue()


def mask_pixels(masks: Masks) -> UInt8[ndarray, "b h w"]:
    """White where masked."""
    return masks[:, 0].byte().mul(255).cpu().numpy()


def read_pixels(path: Path) -> UInt8[ndarray, "h w 3"]:
    """A picture of ours, of which a mask too has three channels."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def nearly_equal(
    original: UInt8[ndarray, "h w 3"], result: UInt8[ndarray, "h w 3"], mask: UInt8[ndarray, "h w"] | None = None
) -> bool:
    """Whether a result still shows its original.

    With a mask: a PSNR of at least 30 dB in it, or of 40 dB in the whole view, where next to nothing was masked.
    Without one: 30 dB in the view after the best gain and offset, which compression and brightness leave.
    """
    one, other = (picture[view_box(*picture.shape[:2])].astype(float) for picture in (original, result))
    if mask is not None:
        hidden = mask > 0
        inside = original[hidden].astype(float) - result[hidden]
        return bool(_psnr(one - other) >= 40 or not hidden.any() or _psnr(inside) >= 30)
    x, y = other - other.mean(), one - one.mean()
    gain = (x * y).sum() / max((x * x).sum(), 1e-9)
    return _psnr(y - gain * x) >= 30


def shows(original: Path, result: Path, mask: Path | None) -> bool:
    """`nearly_equal` of files."""
    hidden = None if mask is None else read_pixels(mask)[..., 0]
    return nearly_equal(read_pixels(original), read_pixels(result), hidden)


def _psnr(difference: ndarray) -> float:
    return float(10 * np.log10(255**2 / max((difference**2).mean(), 1e-9)))


def sample_sheet(originals: Sequence[Path], masks: Sequence[Path], results: Sequence[Path]) -> Image.Image:
    """Three labelled rows of fields: originals, what is masked (red), results; one column a person."""
    rows = [[_load(path) for path in paths] for paths in (originals, originals, results)]
    red = Image.new("RGB", rows[0][0].size, (220, 40, 40))
    for face, path in zip(rows[1], masks, strict=True):
        face.paste(Image.blend(face, red, 0.65), mask=_load(path).convert("L"))
    size, margin = rows[0][0].width, 24
    sheet = Image.new("RGB", (size * len(results), (size + margin) * 3), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, row) in enumerate(zip(("original", "mask", "repainted"), rows, strict=True)):
        top = number * (size + margin)
        draw.text((6, top + 2), label, fill="black", font_size=16)
        for column, face in enumerate(row):
            sheet.paste(face, (column * size, top + margin))
    return sheet


def _load(path: Path) -> Image.Image:
    """The field of a crop, `veil.types.FIELD`: small photos have little but repeated edges round it."""
    with Image.open(path) as image:
        inner = field_box(image.width)
        return image.convert("RGB").crop((inner.start, inner.start, inner.stop, inner.stop))
