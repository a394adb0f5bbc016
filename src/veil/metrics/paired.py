"""Is one run better than another? Differences of a figure on the same probes, second run minus first."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import bdtr, betaincinv

from veil.metrics.intervals import LEVEL, end_interval, percentiles, resample


class Column(NamedTuple):
    """A figure of one run: a number for each probe."""

    keys: Sequence[str]  # unique
    values: Float[np.ndarray, " n"]
    people: Int[np.ndarray, " n"]


class Difference(NamedTuple):
    """Second run minus first: mean, 95 % interval, two-sided p-value of no difference, probes compared."""

    difference: float
    low: float
    high: float
    p: float
    n: int


def mcnemar(first: Column, second: Column) -> Difference:
    """Difference of two shares (each value 0 or 1) by the probes on which the runs disagree: exact McNemar test (1947).

    Interval: Clopper and Pearson's for the share of the disagreements that the second run has, given how many there
    are; it leaves out 0 exactly where p < 0.05. Probes are taken as independent: with several of one person, prefer
    `paired_difference`.
    """
    before, after, _ = matched(first, second)
    if not np.isin([before, after], (0.0, 1.0)).all():
        raise ValueError("values: McNemar's test is of shares, each value must be 0 or 1")
    n, gained, lost = len(before), int((after > before).sum()), int((after < before).sum())
    if gained + lost == 0:
        reach = end_interval(0.0, n)[1]
        return Difference(0.0, -reach, reach, 1.0, n)
    shares = _clopper_pearson(gained, gained + lost)
    low, high = ((2 * bound - 1) * (gained + lost) / n for bound in shares)
    p = min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
    return Difference((gained - lost) / n, low, high, p, n)


def _clopper_pearson(count: int, trials: int) -> tuple[float, float]:
    """The exact interval of a share (1934), by quantiles of the beta distribution."""
    tail = (1 - LEVEL) / 2
    low = float(betaincinv(count, trials - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, trials - count, 1 - tail)) if count < trials else 1.0
    return low, high


def paired_difference(first: Column, second: Column, resamples: int = 1000, seed: int = 0) -> Difference:
    """Difference of means, people resampled with replacement; a person's two runs stay together (Efron 1979).

    p is of a randomisation test: if the runs are alike, a person's change might as well have the other sign (Fisher
    1935, section 21). It is the share of drawn signs under which the sum is as far from 0, at least
    1 / (resamples + 1); a bootstrap's tails would promise more than few people can hold. Shares (each value 0 or 1)
    that differ nowhere give nothing to resample: `end_interval`, one trial a person, to either side.
    """
    before, after, people = matched(first, second)
    change = after - before
    _, person = np.unique(people, return_inverse=True)
    totals, counts = np.bincount(person, change), np.bincount(person)
    value, n = float(change.mean()), len(change)
    if not change.any():
        reach = end_interval(0.0, len(counts))[1] if np.isin(before, (0.0, 1.0)).all() else 0.0
        return Difference(0.0, -reach, reach, 1.0, n)
    draws = _draws(len(counts), resamples, seed)
    even = (counts == counts[0]).all()  # then every resample has as many probes: half the work
    means = (draws @ totals) / (n if even else draws @ counts)
    far = np.abs(_signs(len(totals), resamples, seed) @ totals) >= abs(totals.sum()) * (1 - 1e-9)
    return Difference(value, *percentiles(means), (int(far.sum()) + 1) / (resamples + 1), n)


_draws = lru_cache(2)(resample)  # of many comparisons on the same people


@lru_cache(2)
def _signs(people: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples people"]:
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, people))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) correction for many comparisons, in their order: the chance of a single false one stays below p."""
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        worst = max(worst, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(worst, 1.0)
    return corrected


def matched(
    first: Column, second: Column
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Both runs' values in the first's order, and whose they are.

    Raises ValueError where the runs did not measure the same probes of the same people.
    """
    alike = first.keys == second.keys and np.array_equal(first.people, second.people)  # no order to find
    if alike and len(set(first.keys)) == len(first.keys):
        return first.values, second.values, first.people
    place = {key: index for index, key in enumerate(second.keys)}
    if not 0 < len(set(first.keys)) == len(first.keys) == len(place) == len(second.keys):
        raise ValueError(f"keys: must be unique, as many in both, got {len(first.keys)} and {len(second.keys)}")
    missing = [key for key in first.keys if key not in place]
    if missing:
        raise ValueError(f"keys: both runs must have the same probes, got {missing[0]!r} in the first only")
    order = np.array([place[key] for key in first.keys])
    if not np.array_equal(first.people, second.people[order]):
        raise ValueError("people: a probe must be of the same person in both runs")
    return first.values, second.values[order], first.people
