"""FID against torchmetrics, scipy and a case by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid

from veil.metrics.distribution import frechet_distance


def samples(seed: int, n: int = 400, d: int = 8, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + shift


@pytest.mark.parametrize("sizes", [(400, 300), (50, 500)])
def test_fid_equals_torchmetrics_and_scipy(sizes: tuple[int, int]) -> None:
    x, y = samples(0, sizes[0]), samples(1, sizes[1], shift=0.5)
    moments = [moment for part in (x, y) for moment in (part.mean(dim=0), part.T.cov())]
    assert frechet_distance(x, y) == pytest.approx(_compute_fid(*moments).item(), rel=1e-9)
    mu1, c1, mu2, c2 = (moment.numpy() for moment in moments)
    expected = ((mu1 - mu2) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_fid_by_hand() -> None:
    x = torch.tensor([[-1.0], [1.0]])  # variance 2
    assert frechet_distance(x, 3 * x + 5) == pytest.approx(25 + (3 * 2**0.5 - 2**0.5) ** 2)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)


def test_fid_of_fewer_images_than_features_is_finite_and_biased() -> None:
    assert frechet_distance(samples(0, 12, 64), samples(0, 12, 64)) == pytest.approx(0, abs=1e-9)
    gaussian = torch.randn(4000, 16, generator=torch.Generator().manual_seed(3))
    few, many = (frechet_distance(gaussian[:n], gaussian[n : 2 * n]) for n in (40, 2000))
    assert few > 10 * many > 0


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="two features or more, got 1 and 5"):
        frechet_distance(torch.ones(1, 4), torch.ones(5, 4))
