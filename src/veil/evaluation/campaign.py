"""Every attack by every judge, and what comes of it."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from veil.evaluation.groups import by_groups, chosen_labels
from veil.evaluation.material import Absent, Attempt, Material, clear_comparison
from veil.evaluation.outcome import RANK1, Outcome, figures, headline, limits_of, outcome, score_arrays
from veil.metrics.measure import CLEAR, Figure, name_of
from veil.storage.folders import Row
from veil.types import Images

Attack = Callable[[Material, str], Attempt]


class Findings(NamedTuple):
    """Figures of a run's attacks."""

    figures: list[Figure]
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
    found: list[Figure] = []
    scores: dict[str, np.ndarray] = {}
    cells: dict[tuple[str, str], Outcome] = {}
    variants: set[str] = set()
    keys = list(material.evaluation.probes.keys)
    columns: list[Row] = [{} for _ in keys]
    labels = chosen_labels(material.evaluation.probes.labels, groups)
    rebuilt: Images | None = None
    for judge in material.recognizers:
        for attack, run in attacks.items():
            try:
                attempt = run(material, judge)
            except Absent as error:
                found.append(Figure(RANK1, str(error), judge, attack))
                continue
            result = cells[attack, judge] = outcome(attempt.target, limits_of(attempt), attempt.attackers)
            variants |= {attack} if attempt.variant else set()
            found += figures(result, subject=judge, attack=attack)
            scores |= score_arrays(attack, judge, result)
            rebuilt = attempt.rebuilt if rebuilt is None else rebuilt
            named = name_of(RANK1, judge, attack)
            for row, rank in zip(columns, result.ranks, strict=True):
                row[named] = float(rank == 1)
        limits = limits_of_clear(material, judge)
        ceiling = clear_outcome(material, judge, limits)
        found += figures(ceiling, subject=judge, condition=CLEAR)
        scores |= score_arrays(CLEAR, judge, ceiling)
        scores[f"thresholds/{judge}"] = np.array(list(limits.items())).reshape(-1, 2)
    if attacks:
        found += headline(found, cells, variants, material.whitebox, held_out, keys)
    split = by_groups(cells, labels)
    return Findings([*found, *split.figures], columns, scores, split.rows, rebuilt)


def clear_outcome(material: Material, judge: str, limits: Mapping[float, float]) -> Outcome:
    """The ceiling: the naive attack on clear probes."""
    side = material.attackers if len(material.attackers.probes) else None
    known = clear_comparison(material, judge, side) if side else None
    return outcome(clear_comparison(material, judge, material.evaluation), limits, known)


def limits_of_clear(material: Material, judge: str) -> Mapping[float, float]:
    """Thresholds in the judge's own embedding."""
    clear = clear_comparison(material, judge, material.evaluation)
    return limits_of(Attempt(clear, clear, None))
