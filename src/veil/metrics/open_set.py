"""Open-set identification (ISO/IEC 19795-1): probes of people who may not be enrolled, and an attacker who names nobody
below a threshold.

A *mated* search is of a person who is enrolled, a *non-mated* one of somebody who is not. The threshold lets a share
FPIR of the non-mated searches return anybody (false positive identification rate); FNIR is the share of mated searches
that do not return the person above it (NIST's identification mode: the rank does not count).
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from veil.metrics.intervals import Interval, resample, share_interval, widened
from veil.metrics.measure import Measure
from veil.metrics.verification import RESAMPLES, SUPPORT, far_name

FNIR = {
    fpir: Measure(
        f"fnir@fpir={far_name(fpir)}",
        f"the person is not named above a score that {fpir:.0%} of people who are not enrolled reach",
        "privacy",
        "share",
        (0, 1),
        better="higher",
    )
    for fpir in (0.1, 0.01)
}


def misses(
    mated: Float[np.ndarray, " p"],
    mates: Int[np.ndarray, " p"],
    others: Float[np.ndarray, " q"],
    strangers: Int[np.ndarray, " q"],
) -> Mapping[float, Interval | str]:
    """FNIR at each FPIR with its interval, in which the threshold is set anew; or why there is none.

    Args:
        mated: highest cosine of each mated search to its person, whose number is in `mates`.
        others: highest cosine of each non-mated search to anybody enrolled; in `strangers`, whose probe it is.

    """
    order = np.argsort(-others, kind="stable")
    scores, owners = others[order], strangers[order]
    found: dict[float, Interval | str] = {}
    for fpir in FNIR:
        above = int(fpir * len(scores))
        people = len(np.unique(owners[:above]))
        if people < SUPPORT:
            found[fpir] = (
                f"its threshold would rest on {people} people who are not enrolled, of {len(np.unique(owners))}; "
                f"{SUPPORT} are needed"
            )
            continue
        anew = _thresholds(scores, owners, fpir)
        moved = (mated <= anew[:, None]).mean(axis=1)
        found[fpir] = widened(share_interval((mated <= scores[above]).astype(float), mates), moved)
    return found


def _thresholds(
    scores: Float[np.ndarray, " q"], owners: Int[np.ndarray, " q"], fpir: float
) -> Float[np.ndarray, " resamples"]:
    """The threshold of each resample of people; scores fall."""
    names, person = np.unique(owners, return_inverse=True)
    weights = resample(len(names), RESAMPLES, seed=0)[:, person].cumsum(axis=1)
    place = (weights <= fpir * weights[:, -1:]).sum(axis=1)
    return scores[np.minimum(place, len(scores) - 1)]
