"""KID against scikit-learn's kernel."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel

from veil.metrics.realism import kernel_distance, kernel_distance_interval


def samples(seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(300, 8, generator=torch.Generator().manual_seed(seed)) + shift


def test_kid_equals_scikit_learns_kernel() -> None:
    x, y = samples(0).double().numpy(), samples(1, 0.3).double().numpy()
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, gamma=1 / 8, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    off = ~np.eye(300, dtype=bool)
    expected = xx[off].mean() + yy[off].mean() - 2 * xy.mean()
    assert kernel_distance(samples(0), samples(1, 0.3)) == pytest.approx(expected)


def test_kid_of_two_draws_alike_is_zero_within_its_interval() -> None:
    alike = kernel_distance_interval(samples(0), samples(1))
    assert alike.low <= 0 <= alike.high
    apart = kernel_distance_interval(samples(0), samples(1, 0.5))
    assert apart.low > alike.high
    assert apart.low <= kernel_distance(samples(0), samples(1, 0.5)) <= apart.high
