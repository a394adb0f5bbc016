"""Variants of a photo that keep the person."""

import hashlib

import torch
from torchvision.transforms.v2 import functional as TF

from veil.training.recipe import Augmentation
from veil.types import VIEW, Images


def varied(images: Images, seed: int, variant: int, augmentation: Augmentation) -> Images:
    """Variant number `variant` of one photo `(1, 3, h, w)`, the same whenever it is asked for; 0 is the photo itself.

    Args:
        seed: the face's own.

    """
    if variant == 0:
        return images
    generator = torch.Generator().manual_seed(_mixed(seed, variant))
    chance = torch.rand(10, generator=generator).tolist()  # all drawn, so that no knob moves another's draws
    flip, grey, blur, strength = chance[:4]
    zoom, right, down, light, contrast, colour = (2 * draw - 1 for draw in chance[4:])
    if flip < augmentation.flip:
        images = TF.horizontal_flip(images)
    if augmentation.crop:
        reach = augmentation.crop * images.shape[-1] * VIEW / 2
        images = TF.affine(
            images,
            angle=0.0,
            translate=[right * reach, down * reach],
            scale=1 + zoom * augmentation.crop,
            shear=[0.0, 0.0],
            interpolation=TF.InterpolationMode.BILINEAR,
        )
    jitter = augmentation.jitter
    images = TF.adjust_brightness(images, 1 + light * jitter)
    images = TF.adjust_contrast(images, 1 + contrast * jitter)
    images = TF.adjust_saturation(images, 1 + colour * jitter)
    if grey < augmentation.grey:
        images = TF.rgb_to_grayscale(images, num_output_channels=3)
    if blur < augmentation.blur:
        images = TF.gaussian_blur(images, kernel_size=[9, 9], sigma=[0.5 + 1.5 * strength] * 2)
    return images.clamp(0, 1)


def _mixed(seed: int, variant: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{variant}".encode(), digest_size=8).digest()) >> 1
