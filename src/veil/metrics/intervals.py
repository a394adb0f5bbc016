"""Means over faces with 95 % intervals over people."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, its 95 % interval, and the number of faces it is the mean of."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: Float[np.ndarray, " n"],
    people: Int[np.ndarray, " n"],
    resamples: int = 1000,
    seed: int = 0,
    *,
    event: bool = True,
) -> Interval:
    """Percentile interval of the mean of `values`, resampling people with replacement (Efron 1979).

    Photos of one person are alike, so people are the independent units (cluster bootstrap; Davison and Hinkley 1997,
    section 3.8). A share of events of exactly 0 or 1 has no spread to resample: its interval is Clopper and Pearson's
    (1934) with one trial a person. A mean of anything else that is the same for everybody has no spread at all.

    Args:
        event: whether values are what happens to a face, or to a share of its pairs.

    """
    _, person = np.unique(people, return_inverse=True)
    totals, counts = np.bincount(person, values), np.bincount(person)
    mean = float(values.mean())
    if event and np.all(values == values[0]) and mean in (0.0, 1.0):
        return Interval(mean, *end_interval(mean, len(counts)), len(values))
    draws = resample(len(counts), resamples, seed)
    return Interval(mean, *percentiles((draws @ totals) / (draws @ counts)), len(values))


def bootstrap_quantile(
    values: Float[np.ndarray, " n"],
    people: Int[np.ndarray, " n"],
    share: float,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The value that a `share` of the values do not exceed, with its percentile interval as `bootstrap_mean`'s."""
    _, person = np.unique(people, return_inverse=True)
    order = values.argsort()
    weights = resample(int(person.max()) + 1, resamples, seed)[:, person[order]].cumsum(axis=1)
    at = (weights < share * weights[:, -1:]).sum(axis=1)
    value = np.quantile(values, share, method="inverted_cdf")
    return Interval(float(value), *percentiles(values[order][at]), len(values))


def resample(people: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples people"]:
    """How often each person is drawn in each resample, with replacement."""
    uniform = np.full(people, 1 / people)
    return np.random.default_rng(seed).multinomial(people, uniform, size=resamples).astype(float)


def percentiles(figures: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Between which 95 % of the resampled figures lie."""
    low, high = np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def end_interval(share: float, people: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share of exactly 0 or 1, one trial a person."""
    reach = ((1 - LEVEL) / 2) ** (1 / people)
    return (reach, 1.0) if share else (0.0, 1 - reach)


def people_mean(
    values: Float[np.ndarray, " n"], people: Int[np.ndarray, " n"], resamples: int = 1000, *, event: bool = True
) -> Interval | None:
    """Mean and interval (`bootstrap_mean`) of the values that are numbers; `None` where none is."""
    concerned = ~np.isnan(values)
    if not concerned.any():
        return None
    return bootstrap_mean(values[concerned], people[concerned], resamples, event=event)
