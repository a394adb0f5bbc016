"""Bits of identity on channels of known mutual information: never above, near if the attacker is right."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import vonmises_fisher
from torch.nn import functional as F

from veil.metrics import information as module
from veil.metrics.identification import Comparison
from veil.metrics.information import COLDEST, HOTTEST, bits_left, doubt_after, fit_temperature


def mean_and_error(bits: torch.Tensor) -> tuple[float, float]:
    return bits.mean().item(), bits.std().item() / len(bits) ** 0.5


def symmetric(people: int, error: float, probes: int, seed: int) -> Comparison:
    """The probe shows the true person, or with chance `error` any one of the others."""
    generator = np.random.default_rng(seed)
    probed = np.arange(probes) % people
    other = (probed + generator.integers(1, people, probes)) % people
    shown = np.where(generator.random(probes) < error, other, probed)
    eye = torch.eye(people)
    return Comparison(eye[torch.from_numpy(shown)], torch.from_numpy(probed), eye, torch.arange(people))


@pytest.mark.parametrize(("people", "error"), [(2, 0.1), (32, 0.3), (32, 0.9)])
def test_symmetric_channel(people: int, error: float) -> None:
    entropy = -error * math.log2(error) - (1 - error) * math.log2(1 - error)
    information = math.log2(people) - entropy - error * math.log2(people - 1)
    temperature = fit_temperature(symmetric(people, error, 20_000, seed=0))
    odds = (1 - error) / (error / (people - 1))  # how much likelier the person shown is than any other
    assert temperature == pytest.approx(1 / math.log(odds), rel=0.05)
    bits, spread = mean_and_error(bits_left(symmetric(people, error, 20_000, seed=1), temperature))
    assert bits <= information + 3 * spread
    assert bits >= 0.95 * information - 3 * spread


def gaussian(templates: torch.Tensor, noise: float, photos: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each person's template, `photos` times, with white noise; not yet of unit length. And whose it is."""
    owners = torch.arange(len(templates)).repeat(photos)
    return templates[owners] + noise * torch.randn(
        len(owners), templates.shape[1], generator=torch.Generator().manual_seed(seed)
    ), owners


def test_gaussian_channel() -> None:
    """The attacker sees directions only and fits his temperature on other people; information by Monte Carlo."""
    generator = torch.Generator().manual_seed(0)
    known, attacked = F.normalize(torch.randn(2, 64, 512, generator=generator), dim=2)
    noise = 0.35
    received, owners = gaussian(attacked, noise, 300, seed=2)
    likelihood = -torch.cdist(received.double(), attacked.double()).square().numpy() / (2 * noise**2)
    true = likelihood[np.arange(len(owners)), owners.numpy()]
    information = 6 + (true - logsumexp(likelihood, axis=1)).mean() / math.log(2)
    assert 2 < information < 5  # neither useless nor perfect
    probes, probed = gaussian(known, noise, 100, seed=3)
    temperature = fit_temperature(Comparison(F.normalize(probes, dim=1), probed, known, torch.arange(64)))
    comparison = Comparison(F.normalize(received, dim=1), owners, attacked, torch.arange(64))
    bits, spread = mean_and_error(bits_left(comparison, temperature))
    assert bits <= information + 3 * spread
    assert bits >= 0.95 * information


def test_attacker_who_is_wrong_gets_fewer_bits() -> None:
    comparison = symmetric(32, 0.3, 5000, seed=0)
    best = fit_temperature(comparison)
    right = bits_left(comparison, best).mean()
    assert bits_left(comparison, best / 3).mean() < right
    assert bits_left(comparison, best * 3).mean() < right
    assert bits_left(comparison, 0.01).mean() < 0  # certain, and misled by 3 of 10 probes


def test_temperature_of_a_von_mises_fisher_channel_is_one_over_its_concentration() -> None:
    templates = F.normalize(torch.randn(20, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    draws = [vonmises_fisher(mean, 10).rvs(200, random_state=i) for i, mean in enumerate(templates.double().numpy())]
    probes = torch.from_numpy(np.concatenate(draws)).float()
    comparison = Comparison(probes, torch.arange(20).repeat_interleave(200), templates, torch.arange(20))
    assert fit_temperature(comparison) == pytest.approx(0.1, rel=0.05)


def test_a_face_that_is_not_found_has_no_bits() -> None:
    comparison = symmetric(32, 0.3, 40, seed=0)
    comparison.probes[::2] = 0
    bits = bits_left(comparison, 0.1)
    assert bits[::2].abs().max() < 1e-12
    assert (bits[1::2].abs() > 0.1).all()


def test_bits_by_hand_of_several_templates() -> None:
    """Two people with cosines (1, 0) and (-1): the first's posterior is 1 / (1 + exp(-2 / T))."""
    templates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    comparison = Comparison(templates[:1], torch.tensor([4]), templates, torch.tensor([4, 4, 9]))
    assert bits_left(comparison, 0.5).item() == pytest.approx(1 - math.log2(1 + math.exp(-4)))
    with pytest.raises(ValueError, match="temperature: must be above 0, got 0"):
        bits_left(comparison, 0)


def test_temperature_is_bounded_and_thinned_probes_fit_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COLDEST <= fit_temperature(symmetric(8, 0.0, 64, seed=0)) < 0.02  # never wrong: colder changes nothing
    assert fit_temperature(symmetric(8, 0.99, 4000, seed=0)) == pytest.approx(HOTTEST, rel=0.1)
    comparison = symmetric(31, 0.3, 20_000, seed=0)
    whole = fit_temperature(comparison)
    monkeypatch.setattr(module, "FITTED", 31 * 5000)
    assert fit_temperature(comparison) == pytest.approx(whole, rel=0.05)
    assert fit_temperature(comparison) != whole


def test_doubt_bounds_what_one_surprise_costs() -> None:
    """An attacker who never failed on 18 probes, then once: by hand, with a posterior that is all but certain."""
    probes = torch.eye(4)[[0, 1, 2, 0]]
    comparison = Comparison(probes, torch.tensor([0, 1, 2, 3]), torch.eye(4), torch.arange(4))
    doubt = doubt_after(18)
    assert doubt == pytest.approx(0.05)
    bits = bits_left(comparison, 1e-3, doubt)
    right, wrong = 2 + math.log2(0.95 + 0.05 / 4), 2 + math.log2(0.05 / 4)
    assert bits.tolist() == pytest.approx([right, right, right, wrong])
    assert bits_left(comparison, 1e-3)[3] < -1000
    uniform = bits_left(comparison._replace(probes=torch.zeros(4, 4)), 0.1, doubt)
    assert uniform.tolist() == pytest.approx([0.0] * 4, abs=1e-9)
    with pytest.raises(ValueError, match="doubt"):
        bits_left(comparison, 0.1, 1.0)
