"""How much of a face must be repainted?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from veil.metrics.intervals import Interval, bootstrap_mean, bootstrap_quantile, percentiles, resample, share_interval
from veil.metrics.measure import Figure, Measure, name_of

RATIO = Measure(
    "ratio",
    "masked share of each face's square, as small as hides it from the white boxes",
    "minimal",
    "share",
    (0, 1),
    better="lower",
    prominence=1,
)
HIDDEN = Measure(
    "hidden", "no white box takes the face for its person", "minimal", "share", (0, 1), "higher", 1, event=True
)
QUANTILES = {
    share: Measure(f"ratio_{name}", f"{words} of the faces needed no more", "minimal", "share", (0, 1), "lower", 1)
    for share, name, words in (
        (0.1, "tenth", "a tenth"),
        (0.5, "median", "half"),
        (0.9, "nine_tenths", "nine tenths"),
    )
}
COLUMNS = tuple(name_of(measure) for measure in (RATIO, HIDDEN))  # of the manifest


def ratio_figures(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """How much of each face was repainted where each has its own ratio, and how many faces that hid."""
    people = np.array([row["label"] for row in rows])
    ratios, hidden = (np.array([row[column] for row in rows]) for column in COLUMNS)
    found = [Figure(RATIO, bootstrap_mean(ratios, people)), Figure(HIDDEN, share_interval(hidden, people))]
    return found + [Figure(measure, bootstrap_quantile(ratios, people, share)) for share, measure in QUANTILES.items()]


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
