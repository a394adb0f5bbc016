"""Paired tests against statsmodels and scipy; intervals against simulated truth."""

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from veil.metrics.paired import Column, Difference, holm, mcnemar, paired_difference


def column(values: np.ndarray, people: np.ndarray | None = None) -> Column:
    owners = np.arange(len(values)) if people is None else people
    return Column([f"k{index}" for index in range(len(values))], np.asarray(values, dtype=float), owners)


def table(both: int, lost: int, gained: int, neither: int) -> tuple[Column, Column]:
    counts = (both, lost, gained, neither)
    return column(np.repeat([1, 1, 0, 0], counts)), column(np.repeat([1, 0, 1, 0], counts))


@pytest.mark.parametrize("counts", [(20, 3, 12, 5), (0, 10, 10, 0), (5, 1, 0, 5), (40, 0, 9, 1), (100, 30, 60, 10)])
def test_mcnemar_equals_statsmodels(counts: tuple[int, int, int, int]) -> None:
    found = mcnemar(*table(*counts))
    expected = reference(np.array(counts).reshape(2, 2), exact=True)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx((counts[2] - counts[1]) / sum(counts))
    assert found.low <= found.difference <= found.high
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


def test_mcnemar_of_runs_that_agree() -> None:
    reach = 1 - 0.025 ** (1 / 15)
    assert mcnemar(*table(10, 0, 0, 5)) == pytest.approx(Difference(0, -reach, reach, 1, 15))
    with pytest.raises(ValueError, match="must be 0 or 1"):
        mcnemar(column(np.array([0.5])), column(np.array([1.0])))


def test_difference_resamples_people_like_scipy() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 3)
    first = generator.normal(size=40)[people] + generator.normal(size=120)
    second = first + 0.3 + 0.4 * generator.normal(size=40)[people]
    found = paired_difference(column(first, people), column(second, people), resamples=20_000)
    change = (second - first).reshape(40, 3).mean(axis=1)
    theirs = bootstrap((change,), np.mean, n_resamples=20_000, method="percentile", rng=generator).confidence_interval
    assert found.difference == pytest.approx(change.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_keys_are_matched_in_any_order() -> None:
    generator = np.random.default_rng(0)
    first, second = column(generator.random(30)), column(generator.random(30))
    order = generator.permutation(30)
    shuffled = Column([second.keys[i] for i in order], second.values[order], second.people[order])
    assert paired_difference(first, shuffled) == paired_difference(first, second)


def test_runs_on_other_probes_are_errors() -> None:
    first = column(np.arange(3.0))
    with pytest.raises(ValueError, match="got 'k2' in the first only"):
        paired_difference(first, first._replace(keys=["k0", "k1", "other"]))
    with pytest.raises(ValueError, match="as many in both, got 3 and 2"):
        mcnemar(first, column(np.arange(2.0)))
    with pytest.raises(ValueError, match="unique"):
        paired_difference(first, first._replace(keys=["k0", "k1", "k1"]))
    with pytest.raises(ValueError, match="same person"):
        paired_difference(first, first._replace(people=np.array([0, 1, 1])))


def test_equal_runs() -> None:
    shares = column(np.array([0.0, 1, 1, 0]), np.array([0, 0, 1, 1]))
    reach = 1 - 0.025**0.5
    assert paired_difference(shares, shares) == pytest.approx(Difference(0, -reach, reach, 1, 4))
    cosines = column(np.array([0.3, 0.2]))
    assert paired_difference(cosines, cosines) == Difference(0, 0, 0, 1, 2)


def simulate(generator: np.random.Generator, effect: float) -> tuple[Column, Column]:
    """60 people, 5 probes; both runs' shares depend on the person, the second on its own way too."""
    people = np.repeat(np.arange(60), 5)
    easy = generator.uniform(0.2, 0.6, 60)
    other = easy + effect + generator.uniform(-0.2, 0.2, 60)
    first, second = (generator.random(300) < chance[people] for chance in (easy, other))
    return column(first, people), column(second, people)


def test_difference_covers_the_truth() -> None:
    """In 93-97 % of simulated data sets, within the spread of 500 trials."""
    generator = np.random.default_rng(5)
    covered = 0
    for trial in range(500):
        found = paired_difference(*simulate(generator, 0.1), seed=trial)
        covered += found.low <= 0.1 <= found.high
    assert 0.92 <= covered / 500 <= 0.975


def test_p_is_below_five_percent_in_five_percent_of_equal_runs() -> None:
    generator = np.random.default_rng(6)
    rejected = np.mean([paired_difference(*simulate(generator, 0.0), seed=trial).p < 0.05 for trial in range(500)])
    assert 0.025 <= rejected <= 0.08
    assert paired_difference(*simulate(generator, 0.3)).p == pytest.approx(1 / 1001)


@pytest.mark.parametrize(("gained", "people"), [(5, 40), (10, 40), (4, 12)])
def test_p_is_that_of_scipys_sign_flips(gained: int, people: int) -> None:
    """Five people of forty who all gained: the exact sign test has 2 / 2^5."""
    change = np.r_[np.ones(gained), np.zeros(people - gained)]
    found = paired_difference(column(np.zeros(people)), column(change), resamples=20_000)
    exact = permutation_test((change[:gained],), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert exact.pvalue == pytest.approx(2 / 2**gained)
    assert found.p == pytest.approx(exact.pvalue, abs=0.005)


def test_holm_equals_statsmodels() -> None:
    for count in (1, 2, 7, 30):
        p_values = np.random.default_rng(count).random(count) ** 3
        assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])
