"""How much of a face must be repainted?"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from veil.metrics.intervals import Interval, percentiles, resample


def smallest_ratio(
    ratios: Sequence[float],
    accepted: Float[np.ndarray, "faces ratios"],
    people: Int[np.ndarray, " faces"],
    limit: float = 0.01,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """The smallest ratio at which the mean over faces falls to `limit`, straight between the measured ratios.

    Its 95 % interval is by resampling people (as `bootstrap_mean`); a resample that never falls so far counts as 1, the
    whole view. `None` where the mean itself never does.

    Args:
        ratios: rising, in [0, 1].
        accepted: of each face at each ratio, the share of its genuine pairs that are accepted (TAR at some FAR).
        people: whose faces they are.
        limit: in [0, 1].

    """
    _, person = np.unique(people, return_inverse=True)
    totals = np.stack([np.bincount(person, column) for column in accepted.T], axis=1)
    counts = np.bincount(person)
    value = _crossing(ratios, accepted.mean(axis=0), limit)
    if value is None:
        return None
    draws = resample(len(counts), resamples, seed)
    means = (draws @ totals) / (draws @ counts)[:, None]
    found = [_crossing(ratios, row, limit) for row in means]
    return Interval(value, *percentiles(np.array([1.0 if at is None else at for at in found])), len(people))


def _crossing(ratios: Sequence[float], curve: Float[np.ndarray, " ratios"], limit: float) -> float | None:
    under = np.flatnonzero(curve <= limit)
    if not len(under):
        return None
    first = int(under[0])
    if first == 0:
        return float(ratios[0])
    before, after = curve[first - 1], curve[first]
    share = (before - limit) / (before - after)
    return float(ratios[first - 1] + share * (ratios[first] - ratios[first - 1]))
