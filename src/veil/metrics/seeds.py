"""One figure of several seeds."""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from veil.metrics.intervals import LEVEL, NORMAL, Interval
from veil.metrics.measure import Measure


def over_seeds(intervals: Sequence[Interval], measure: Measure) -> Interval:
    """The mean of a figure over seeds, with its 95 % interval; `n` is of all seeds together.

    Two variances add up, as in Rubin's rules for repeated draws of one sample (1987): what other people would change,
    the mean square of the seeds' own intervals, which more seeds do not lessen, for they show the same people; and what
    other seeds would, the variance between seeds over their number. Student's t has the degrees of freedom that the
    second's part in the sum leaves (Satterthwaite 1946). One seed's interval stays as it is.

    Raises ValueError where there is no interval.
    """
    if not intervals:
        raise ValueError("intervals: at least one seed is needed, got none")
    if len(intervals) == 1:
        return intervals[0]
    values, lows, highs, counts = np.array(intervals, float).T
    mean, between = float(values.mean()), float(values.var(ddof=1)) / len(values)
    below, above = (_reach(side / NORMAL, between, len(values)) for side in (values - lows, highs - values))
    least, most = measure.bounds
    low = mean - below if least is None else max(mean - below, least)
    high = mean + above if most is None else min(mean + above, most)
    return Interval(mean, low, high, int(counts.sum()))


def _reach(errors: np.ndarray, between: float, seeds: int) -> float:
    """How far an interval reaches to one side, of the seeds' standard errors to it."""
    variance = float((errors**2).mean()) + between
    if not between:
        return NORMAL * variance**0.5
    return float(stdtrit((seeds - 1) * (variance / between) ** 2, (1 + LEVEL) / 2)) * variance**0.5
