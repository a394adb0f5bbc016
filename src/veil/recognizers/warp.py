"""Faces turned and scaled to where their landmarks belong."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from veil.types import Images


def similarity(source: Float[Tensor, "b n 2"], target: Float[Tensor, "b n 2"]) -> Float[Tensor, "b 3 3"]:
    """Rotation, scale and shift that take `source` nearest to `target` in least squares (Umeyama 1991)."""
    source_mean, target_mean = source.mean(dim=1, keepdim=True), target.mean(dim=1, keepdim=True)
    a, b = torch.view_as_complex((source - source_mean).contiguous()), torch.view_as_complex(target - target_mean)
    turn = (b * a.conj()).sum(dim=1) / (a * a.conj()).sum(dim=1)  # in the plane a similarity is a complex factor
    matrices = torch.eye(3, device=source.device).repeat(len(source), 1, 1)
    matrices[:, 0, 0] = matrices[:, 1, 1] = turn.real
    matrices[:, 1, 0], matrices[:, 0, 1] = turn.imag, -turn.imag
    matrices[:, :2, 2] = target_mean[:, 0] - (matrices[:, :2, :2] @ source_mean.mT)[..., 0]
    return matrices


def warp(images: Images, matrices: Float[Tensor, "b 3 3"], size: int) -> Float[Tensor, "b 3 size size"]:
    """The square of `size` px that each image shows through its map, by bilinear interpolation; black outside it.

    Args:
        matrices: from centres of the square's pixels, `(x, y)` from 0 to `size - 1`, to centres of the image's pixels.

    """
    height, width = images.shape[-2:]
    # `affine_grid` counts from -1 to 1 between outer edges
    to_square = torch.tensor([[size / 2, 0, (size - 1) / 2], [0, size / 2, (size - 1) / 2], [0, 0, 1]])
    from_image = torch.tensor([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    theta = from_image.to(matrices) @ matrices @ to_square.to(matrices)
    grid = F.affine_grid(theta[:, :2], [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid.to(images), align_corners=False)
