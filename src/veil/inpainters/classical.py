"""Inpainters and obfuscations without a network: baselines that share the call of the real thing."""

import cv2
import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from veil.data.known import untrained
from veil.errors import InputError
from veil.inpainters.composite import paste_back
from veil.types import Faces, Images, Masks


@untrained
def none(faces: Faces, masks: Masks) -> Images:
    """The original: a control that must fool nobody."""
    return faces.images


@untrained
def fill(faces: Faces, masks: Masks) -> Images:
    """The mean colour of each face's unmasked pixels."""
    visible = ~masks
    mean = (faces.images * visible).sum(dim=(2, 3), keepdim=True) / visible.sum(dim=(2, 3), keepdim=True)
    return paste_back(faces.images, mean.expand_as(faces.images), masks)


@untrained
def blur(faces: Faces, masks: Masks, sigma: float) -> Images:
    """Gaussian blur of `sigma` pixels."""
    if sigma <= 0:
        raise InputError(f"inpainter.sigma is in pixels and must be above 0, got {sigma}")
    reach = min(2 * round(3 * sigma) + 1, 2 * min(faces.images.shape[-2:]) - 1)  # reflection needs a smaller kernel
    across = gaussian_blur(faces.images, [reach, 1], [sigma, sigma])  # one way, then the other: 20 times faster
    return paste_back(faces.images, gaussian_blur(across, [1, reach], [sigma, sigma]), masks)


@untrained
def pixelate(faces: Faces, masks: Masks, block: int) -> Images:
    """The mean colour of each `block` x `block` pixels."""
    size = faces.images.shape[-2:]
    if not 1 <= block <= min(size):
        raise InputError(f"inpainter.block is in pixels and must be in [1, {min(size)}], got {block}")
    mosaic = F.avg_pool2d(faces.images, block, ceil_mode=True)
    return paste_back(
        faces.images, mosaic.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., : size[0], : size[1]], masks
    )


@untrained
def telea(faces: Faces, masks: Masks, radius: float) -> Images:
    """Fast marching from the mask's border inwards (Telea 2004); OpenCV's, in 8 bits. `radius` is in pixels."""
    if not 1 <= radius <= 100:  # OpenCV rounds it, and takes what is outside for the nearest of these
        raise InputError(f"inpainter.radius is in pixels and must be in [1, 100], got {radius}")
    pixels = (faces.images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    holes = masks[:, 0].byte().cpu().numpy()
    painted = [cv2.inpaint(face, hole, radius, cv2.INPAINT_TELEA) for face, hole in zip(pixels, holes, strict=True)]
    return paste_back(faces.images, _to_images(painted).to(faces.images), masks)


def _to_images(pixels: list[np.ndarray]) -> Images:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
