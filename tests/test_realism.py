"""KID against scikit-learn's kernel and torchmetrics; people with several photos against simulated truth."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torchmetrics.image.kid import poly_mmd

from veil.metrics.distribution import kernel_distance, kernel_distance_interval


def samples(seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(300, 8, generator=torch.Generator().manual_seed(seed)) + shift


def photos(generator: torch.Generator, people: int, each: int, shift: float = 0.0) -> torch.Tensor:
    """`each` photos round every person's centre."""
    centres = 0.8 * torch.randn(people, 8, generator=generator) + shift
    return centres.repeat_interleave(each, 0) + 0.6 * torch.randn(people * each, 8, generator=generator)


def owners(people: int, each: int, first: int = 0) -> torch.Tensor:
    return first + torch.arange(people).repeat_interleave(each)


def test_kid_equals_scikit_learns_kernel() -> None:
    x, y = samples(0).double().numpy(), samples(1, 0.3).double().numpy()
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, gamma=1 / 8, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    off = ~np.eye(300, dtype=bool)
    expected = xx[off].mean() + yy[off].mean() - 2 * xy.mean()
    assert kernel_distance(samples(0), samples(1, 0.3)) == pytest.approx(expected)


def test_kid_of_people_with_one_photo_is_torchmetrics() -> None:
    x, y = samples(0), samples(1, 0.3)
    expected = poly_mmd(x.double(), y.double()).item()
    assert kernel_distance(x, y, owners(300, 1), owners(300, 1, 300)) == pytest.approx(expected)
    assert kernel_distance(x, y) == pytest.approx(expected)


def test_only_pairs_of_different_people_count() -> None:
    x, y = samples(0)[:5], samples(1)[:4]
    people, others = torch.tensor([3, 3, 8, 5, 8]), torch.tensor([5, 0, 0, 7])  # 5 is in both
    means = []
    for (a, left), (b, right) in (((x, people), (x, people)), ((y, others), (y, others)), ((x, people), (y, others))):
        kernel = polynomial_kernel(a.double(), b.double(), degree=3, gamma=1 / 8, coef0=1)
        means.append(kernel[(left[:, None] != right).numpy()].mean())
    assert kernel_distance(x, y, people, others) == pytest.approx(means[0] + means[1] - 2 * means[2])


def test_several_photos_of_a_person_do_not_lift_kid() -> None:
    generator = torch.Generator().manual_seed(2)
    plain, ours = [], []
    for _ in range(200):
        x, y = photos(generator, 30, 5), photos(generator, 40, 5)
        plain.append(kernel_distance(x, y))
        ours.append(kernel_distance(x, y, owners(30, 5), owners(40, 5, 30)))
    mean, error = np.mean(ours), np.std(ours) / 200**0.5
    assert abs(mean) < 3 * error
    assert np.mean(plain) > 20 * error


def test_interval_over_people_covers_the_truth() -> None:
    """At least: halves spread as the sample does where the sets differ, and by more where they do not."""
    generator = torch.Generator().manual_seed(3)
    truth = np.mean([kernel_distance(photos(generator, 2000, 1), photos(generator, 2000, 1, 0.3)) for _ in range(5)])
    covered = 0
    for trial in range(200):
        x, y = photos(generator, 40, 5), photos(generator, 50, 5, 0.3)
        found = kernel_distance_interval(x, y, owners(40, 5), owners(50, 5, 40), subsets=200, seed=trial)
        covered += found.low <= truth <= found.high
    assert covered / 200 >= 0.93


def test_kid_of_two_draws_alike_is_zero_within_its_interval() -> None:
    alike = kernel_distance_interval(samples(0), samples(1))
    assert alike.low <= 0 <= alike.high
    apart = kernel_distance_interval(samples(0), samples(1, 0.5))
    assert apart.low > alike.high
    assert apart.low <= kernel_distance(samples(0), samples(1, 0.5)) <= apart.high


def test_too_few_people_are_an_error() -> None:
    x, y = samples(0)[:6], samples(1)[:6]
    with pytest.raises(ValueError, match="got 1 and 6 people"):
        kernel_distance(x, y, owners(1, 6), owners(6, 1, 9))
    with pytest.raises(ValueError, match="halves need 4 people in each set, got 3 and 6"):
        kernel_distance_interval(x, y, owners(3, 2), owners(6, 1, 9))
    with pytest.raises(ValueError, match="give both or neither"):
        kernel_distance(x, y, owners(3, 2))
