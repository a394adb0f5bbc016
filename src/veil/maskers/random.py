"""Random patches."""

import torch
from torch import nn

from veil.errors import InputError
from veil.types import Faces, Scores, view


def random_patches(faces: Faces, recognizer: nn.Module, cells: int | None, centre_bias: float = 0.0) -> Scores:
    """Draws tilted to the centre, each face's own: the baseline that looks at nothing.

    Gumbel noise on log-weights makes the top k a weighted draw without replacement (Kool et al. 2019,
    arXiv:1903.06059). The weight of a cell at (x, y) in [-1, 1]^2 is exp(-centre_bias (x^2 + y^2)).
    """
    if centre_bias < 0:
        raise InputError(f"masker.centre_bias must be at least 0, got {centre_bias}")
    rows, columns = (cells, cells) if cells else view(faces.images).shape[-2:]
    y, x = torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns)
    log_weight = -centre_bias * (y[:, None] ** 2 + x**2)
    generators = [torch.Generator().manual_seed(seed) for seed in faces.seeds.tolist()]
    uniform = torch.stack([torch.rand(rows, columns, generator=generator) for generator in generators])
    return (log_weight - uniform.log().neg().log()).to(faces.images)
