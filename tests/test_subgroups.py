"""Tail means and gaps by hand; intervals against simulated truth."""

import numpy as np
import pytest

from veil.metrics.intervals import Interval, bootstrap_mean
from veil.metrics.subgroups import by_group, worst_mean


def test_worst_mean_by_hand() -> None:
    people = np.array([5, 5, 1, 1, 1, 8, 9, 9])
    values = np.array([0.9, 0.5, 0.2, 0.1, 0.0, 0.6, 1.0, 0.0])  # means 0.7, 0.1, 0.6, 0.5
    assert worst_mean(values, people).value == pytest.approx(0.7)  # at least one person
    assert worst_mean(values, people, share=0.3).value == pytest.approx((0.9 + 0.5 + 0.6) / 3)  # ceil(1.2) people
    assert worst_mean(values, people, share=0.3).n == 3
    assert worst_mean(values, people, share=1.0).value == pytest.approx(values.mean())
    with pytest.raises(ValueError, match=r"share: must be in \(0, 1\], got 5"):
        worst_mean(values, people, share=5)


def test_five_percent_of_sixty_people_are_three() -> None:
    assert worst_mean(np.arange(60.0), np.arange(60)).value == pytest.approx((57 + 58 + 59) / 3)


def test_everybody_is_the_mean_with_its_interval() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 3)
    values = generator.random(90)
    assert worst_mean(values, people, share=1.0) == pytest.approx(bootstrap_mean(values, people), abs=0.01)


def test_worst_interval_covers_the_truth() -> None:
    """In 91-97 % of data sets: a percentile interval of the extremes of 200 people is a little narrow."""
    generator = np.random.default_rng(2)
    covered = 0
    truth = 0.95  # the mean of the highest tenth of uniform numbers
    for trial in range(500):
        interval = worst_mean(generator.random(200), np.arange(200), share=0.1, resamples=400, seed=trial)
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / 500 <= 0.975


def test_nobody_recognised_may_still_be_a_twentieth() -> None:
    none = worst_mean(np.zeros(200), np.repeat(np.arange(100), 2))
    assert none == pytest.approx(Interval(0, 0, (1 - 0.025**0.01) * 100 / 5, 10))
    assert worst_mean(np.ones(200), np.repeat(np.arange(100), 2)) == Interval(1, 1, 1, 10)


def test_groups_by_hand() -> None:
    people = np.array([0, 0, 1, 2, 3, 3])
    values = np.array([0.2, 0.4, 0.6, 0.9, 0.7, 0.5])
    groups = np.array(["a", "a", "a", "b", "b", "b"])
    found = by_group(values, people, groups)
    assert list(found.means) == ["a", "b"]
    assert found.means["a"].value == pytest.approx(0.4)
    assert found.means["b"].value == pytest.approx(0.7)
    assert (found.gap.value, found.gap.n) == (pytest.approx(0.3), 6)
    a, b = found.means.values()
    assert found.gap.high == pytest.approx(0.3 + np.hypot(b.high - b.value, a.value - a.low))
    assert found.gap.low == pytest.approx(max(0, 0.3 - np.hypot(b.value - b.low, a.high - a.value)))


def test_one_group_has_no_gap() -> None:
    assert by_group(np.arange(3.0), np.arange(3), np.array(["x"] * 3)).gap is None


def test_gap_between_photos_of_the_same_people_is_covered_at_least() -> None:
    generator = np.random.default_rng(5)
    people, groups = np.repeat(np.arange(60), 4), np.tile([0, 0, 1, 1], 60)
    covered = 0
    for _ in range(200):
        easy = generator.uniform(0.3, 0.7, 60)[people] + 0.2 * groups
        values = (generator.random(240) < easy).astype(float)
        gap = by_group(values, people, groups).gap
        covered += gap.low <= 0.2 <= gap.high
    assert covered / 200 >= 0.94


@pytest.mark.parametrize("means", [(0.5, 0.5, 0.5, 0.5), (0.3, 0.5, 0.5, 0.9)], ids=["alike", "apart"])
def test_gap_covers_the_truth_at_least(means: tuple[float, ...]) -> None:
    generator = np.random.default_rng(4)
    people = np.repeat(np.arange(320), 2)
    groups = people // 80
    covered, none = 0, 0
    for _ in range(200):
        easy = np.clip(np.array(means)[groups[::2]] + generator.normal(0, 0.1, 320), 0, 1)
        values = (generator.random(640) < easy[people]).astype(float)
        gap = by_group(values, people, groups).gap
        covered += gap.low <= max(means) - min(means) <= gap.high
        none += gap.low == 0
    assert covered / 200 >= 0.92  # 95 % and the spread of 200 trials
    assert none / 200 >= 0.92 if max(means) == min(means) else none == 0
