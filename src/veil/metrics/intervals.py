"""Means over faces with 95 % intervals over people."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LEVEL = 0.95
NORMAL = 1.959964  # the standard normal's quantile of (1 + LEVEL) / 2
PSEUDO = 0.1  # of a person who always has it, and of one who never has, in the estimate of a share's variance


class Interval(NamedTuple):
    """A mean, its 95 % interval, and the number of faces it is the mean of."""

    value: float
    low: float
    high: float
    n: int


def share_interval(values: Float[np.ndarray, " n"], people: Int[np.ndarray, " n"]) -> Interval:
    """The mean of `values` in [0, 1] with Wilson's (1927) interval, in which the number of trials is what the spread
    between people says it is worth (Korn and Graubard 1998; Dean and Pagano 2015, doi:10.1093/jssam/smv024).

    Photos of one person are alike, so people are the independent units. A tenth of a person who has it always, and of
    one who never has it, joins in the estimate of that spread, without which a few people who happen to agree would be
    taken for certainty. Trials are worth no fewer than if all photos of a person were the same (Kish 1965, section
    8.2). How often it holds the truth in simulation: docs/metrics.md.
    """
    totals, counts = _of_people(values, people)
    mean, size = float(values.mean()), counts.mean()
    joined = len(counts) + 2 * PSEUDO
    middle = (totals.sum() + PSEUDO * size) / (counts.sum() + 2 * PSEUDO * size)
    spread = ((totals - middle * counts) ** 2).sum() + PSEUDO * size**2 * ((1 - middle) ** 2 + middle**2)
    variance = spread / (joined * size) ** 2 * joined / max(joined - 1, PSEUDO)
    trials = max(middle * (1 - middle) / variance, counts.sum() ** 2 / (counts**2).sum())
    if np.isin(values, (0.0, 1.0)).all():
        trials = min(trials, len(values))
    centre = (mean + NORMAL**2 / (2 * trials)) / (1 + NORMAL**2 / trials)
    reach = NORMAL / (1 + NORMAL**2 / trials) * np.sqrt(mean * (1 - mean) / trials + (NORMAL / (2 * trials)) ** 2)
    return Interval(mean, max(float(centre - reach), 0.0), min(float(centre + reach), 1.0), len(values))


def widened(interval: Interval, moved: Float[np.ndarray, " resamples"]) -> Interval:
    """A share's interval with the doubt about the threshold that made it: squares of the distances to the limits add up
    (MOVER; Zou and Donner 2008, doi:10.1002/sim.3095).

    Args:
        moved: the share when the threshold is set anew.

    """
    value, low, high, n = interval
    least, most = percentiles(moved)
    down = np.hypot(value - low, max(value - least, 0.0))
    up = np.hypot(high - value, max(most - value, 0.0))
    return Interval(value, max(float(value - down), 0.0), min(float(value + up), 1.0), n)


def _of_people(
    values: Float[np.ndarray, " n"], people: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " people"], Float[np.ndarray, " people"]]:
    """Each person's sum and number of values."""
    _, person = np.unique(people, return_inverse=True)
    return np.bincount(person, values), np.bincount(person).astype(float)


def bootstrap_mean(
    values: Float[np.ndarray, " n"], people: Int[np.ndarray, " n"], resamples: int = 1000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of `values`, resampling people with replacement (Efron 1979; cluster bootstrap,
    Davison and Hinkley 1997, section 3.8). Of a share of events `share_interval` is the better.
    """
    totals, counts = _of_people(values, people)
    draws = resample(len(counts), resamples, seed)
    return Interval(float(values.mean()), *percentiles((draws @ totals) / (draws @ counts)), len(values))


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


def resample_apart(
    first: Bool[np.ndarray, " people"], resamples: int, seed: int
) -> Float[np.ndarray, "resamples people"]:
    """As `resample`, those of `first` and the others each among themselves, so that no resample is without either."""
    draws = np.empty((resamples, len(first)))
    for part, own_seed in ((first, seed), (~first, seed + 1)):
        if part.any():
            draws[:, part] = resample(int(part.sum()), resamples, own_seed)
    return draws


def percentiles(figures: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Between which 95 % of the resampled figures lie."""
    low, high = np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def end_interval(share: float, people: int) -> tuple[float, float]:
    """Clopper and Pearson's (1934) interval of a share of exactly 0 or 1, one trial a person."""
    reach = ((1 - LEVEL) / 2) ** (1 / people)
    return (reach, 1.0) if share else (0.0, 1 - reach)


def people_mean(
    values: Float[np.ndarray, " n"], people: Int[np.ndarray, " n"], resamples: int = 1000, *, event: bool = False
) -> Interval | None:
    """Mean and interval of the values that are numbers; `None` where none is.

    Args:
        event: whether values are what happens to a face, or to a share of its pairs: `share_interval`, else
            `bootstrap_mean`.

    """
    concerned = ~np.isnan(values)
    if not concerned.any():
        return None
    if event:
        return share_interval(values[concerned], people[concerned])
    return bootstrap_mean(values[concerned], people[concerned], resamples)
