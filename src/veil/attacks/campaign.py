"""Every attack by every judge, and what comes of it."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from veil.attacks.figures import Outcome, figures, headline, limits_of, outcome, prefix_of, score_arrays
from veil.attacks.groups import by_groups, chosen_labels
from veil.attacks.material import Attempt, Material, clear_comparison
from veil.metrics.intervals import Interval
from veil.store import Row
from veil.types import Images

Attack = Callable[[Material, str], Attempt]


class Findings(NamedTuple):
    """Figures of a run's attacks."""

    metrics: dict[str, Interval]
    absent: dict[str, str]
    columns: list[Row]  # for each probe: rank-1 of each attack and judge
    scores: dict[str, np.ndarray]
    groups: list[Row]  # rank-1 by group of photos, where the data has labels
    rebuilt: Images | None  # the probes as the reversal makes them out


def campaign(
    material: Material, attacks: Mapping[str, Attack], held_out: Collection[str], groups: list[str] | None = None
) -> Findings:
    """Attack the evaluated people's probes in every way, each judge for itself.

    Args:
        held_out: judges that took no part in making the masks: of their figures is the worst case.
        groups: labels of the data by which rank-1 is split; `None` is every one.

    """
    metrics: dict[str, Interval] = {}
    absent: dict[str, str] = {}
    scores: dict[str, np.ndarray] = {}
    cells: dict[tuple[str, str], Outcome] = {}
    keys = list(material.evaluation.probes.keys)
    columns: list[Row] = [{} for _ in keys]
    labels = chosen_labels(material.evaluation.probes.labels, groups)
    rebuilt: Images | None = None
    for judge in material.recognizers:
        for attack, run in attacks.items():
            attempt = run(material, judge)
            result = cells[attack, judge] = outcome(attempt.target, limits_of(attempt), attempt.attackers)
            found, missing = figures(result, prefix_of(attack, judge))
            metrics, absent = metrics | found, absent | missing
            scores |= score_arrays(attack, judge, result)
            rebuilt = attempt.rebuilt if rebuilt is None else rebuilt
            for row, rank in zip(columns, result.ranks, strict=True):
                row[f"{prefix_of(attack, judge)}/rank1"] = float(rank == 1)
        limits = limits_of_clear(material, judge)
        ceiling = clear_outcome(material, judge, limits)
        found, missing = figures(ceiling, f"clear/{judge}")
        metrics, absent = metrics | found, absent | missing
        scores |= score_arrays("clear", judge, ceiling)
        scores[f"thresholds/{judge}"] = np.array(list(limits.items())).reshape(-1, 2)
    if attacks:
        found, missing = headline(metrics, cells, material.whitebox, held_out, keys)
        metrics, absent = metrics | found, absent | missing
    split = by_groups(cells, labels)
    metrics, absent = metrics | split.metrics, absent | split.absent
    return Findings(metrics, absent, columns, scores, split.rows, rebuilt)


def clear_outcome(material: Material, judge: str, limits: Mapping[float, float]) -> Outcome:
    """The ceiling: the naive attack on clear probes."""
    side = material.attackers if len(material.attackers.probes) else None
    known = clear_comparison(material, judge, side) if side else None
    return outcome(clear_comparison(material, judge, material.evaluation), limits, known)


def limits_of_clear(material: Material, judge: str) -> Mapping[float, float]:
    """Thresholds in the judge's own embedding."""
    clear = clear_comparison(material, judge, material.evaluation)
    return limits_of(Attempt(clear, clear, None))
