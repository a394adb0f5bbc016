"""Whom does it protect less? Rank-1 of every attack and judge by group of photos, where the data has labels."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from veil.data.photos import UNLABELLED
from veil.errors import InputError
from veil.evaluation.outcome import Outcome
from veil.metrics.measure import Figure
from veil.metrics.subgroups import RANK1_GAP, by_group
from veil.storage.folders import Row

FEWEST = 5  # people in a group; of fewer nothing can be said
MOST = 12  # values of a label; one with more makes no groups


class GroupFindings(NamedTuple):
    """Gaps are figures of the run; the groups themselves are rows of `groups.csv`."""

    figures: list[Figure]
    rows: list[Row]


def chosen_labels(
    labels: Mapping[str, ndarray], names: list[str] | None, unlabelled: str = UNLABELLED
) -> dict[str, ndarray]:
    """Those of `names`, or every one.

    Raises InputError for a name that the data has no label of; where it has none at all, `unlabelled` says why.
    """
    unknown = sorted(set(names or ()) - set(labels))
    if unknown and not labels:
        raise InputError(f"subgroups must be null for data without labels, got {unknown}: {unlabelled}")
    if unknown:
        raise InputError(f"subgroups must be labels of the data, of which it has {sorted(labels)}, got {unknown}")
    return {name: labels[name] for name in (labels if names is None else names)}


def by_groups(cells: Mapping[tuple[str, str], Outcome], labels: Mapping[str, ndarray]) -> GroupFindings:
    """Rank-1 of each group, and the largest gap `privacy/<judge>/<attack>/rank1_gap@<label>`.

    A photo is in the group that its own label says; groups of fewer than `FEWEST` people are left out.

    Args:
        cells: outcomes by attack and judge.
        labels: one value a probe.

    """
    found = GroupFindings([], [])
    for (attack, judge), result in cells.items():
        for label, groups in labels.items():
            _one(found, attack, judge, result, label, groups)
    return found


def _one(found: GroupFindings, attack: str, judge: str, result: Outcome, label: str, groups: ndarray) -> None:
    place = {"subject": judge, "attack": attack, "group": label}
    names = np.unique(groups)
    if len(names) > MOST:
        reason = f"{len(names)} values, of which more than {MOST} make no groups"
        found.figures.append(Figure(RANK1_GAP, reason, **place))
        return
    large = [group for group in names if len(np.unique(result.people[groups == group])) >= FEWEST]
    kept = np.isin(groups, large)
    if len(large) < 2:
        reason = f"fewer than two groups of {FEWEST} people or more"
        found.figures.append(Figure(RANK1_GAP, reason, **place))
    if not kept.any():
        return
    means, gap = by_group((result.ranks[kept] == 1).astype(float), result.people[kept], groups[kept])
    if gap is not None:
        found.figures.append(Figure(RANK1_GAP, gap, **place))
    for group, mean in means.items():
        people = len(np.unique(result.people[groups.astype(str) == group]))
        found.rows.append(
            {
                "attack": attack,
                "judge": judge,
                "label": label,
                "group": group,
                "rank1": mean.value,
                "low": mean.low,
                "high": mean.high,
                "photos": mean.n,
                "people": people,
            }
        )
