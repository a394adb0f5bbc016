"""Every attack by every judge, and what comes of it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from veil.attacks.figures import Outcome, figures, headline, limits_of, outcome, prefix_of, score_arrays
from veil.attacks.material import Attempt, Material, clear_comparison, first, identities
from veil.metrics.intervals import Interval
from veil.metrics.realism import kernel_distance_interval
from veil.store import Row

PHOTOS = 2  # of each person that results are compared with by KID

Attack = Callable[[Material, str], Attempt]


class Findings(NamedTuple):
    """Figures of a run's attacks."""

    metrics: dict[str, Interval]
    absent: dict[str, str]
    columns: list[Row]  # for each probe: rank-1 of each attack and judge
    scores: dict[str, np.ndarray]


def campaign(material: Material, attacks: Mapping[str, Attack]) -> Findings:
    """Attack the evaluated people's probes in every way, each judge for itself."""
    metrics: dict[str, Interval] = {}
    absent: dict[str, str] = {}
    scores: dict[str, np.ndarray] = {}
    cells: dict[tuple[str, str], Outcome] = {}
    keys = list(material.evaluation.probes.keys)
    columns: list[Row] = [{} for _ in keys]
    for judge in material.recognizers:
        for attack, run in attacks.items():
            attempt = run(material, judge)
            result = cells[attack, judge] = outcome(attempt.target, limits_of(attempt), attempt.attackers)
            found, missing = figures(result, prefix_of(attack, judge))
            metrics, absent = metrics | found, absent | missing
            scores |= score_arrays(attack, judge, result)
            for row, rank in zip(columns, result.ranks, strict=True):
                row[f"{prefix_of(attack, judge)}/rank1"] = float(rank == 1)
        limits = limits_of_clear(material, judge)
        ceiling = clear_outcome(material, judge, limits)
        found, missing = figures(ceiling, f"clear/{judge}")
        metrics, absent = metrics | found, absent | missing
        scores |= score_arrays("clear", judge, ceiling)
        scores[f"thresholds/{judge}"] = np.array(list(limits.items())).reshape(-1, 2)
    if attacks:
        found, missing = headline(metrics, cells, material.whitebox, keys)
        metrics, absent = metrics | found, absent | missing
    for judge in material.recognizers:
        realism = distance(material, judge)
        if isinstance(realism, str):
            absent[f"utility/kid/{judge}"] = realism
        else:
            metrics[f"utility/kid/{judge}"] = realism
    return Findings(metrics, absent, columns, scores)


def clear_outcome(material: Material, judge: str, limits: Mapping[float, float]) -> Outcome:
    """The ceiling: the naive attack on clear probes."""
    side = material.attackers if len(material.attackers.probes) else None
    known = clear_comparison(material, judge, side) if side else None
    return outcome(clear_comparison(material, judge, material.evaluation), limits, known)


def limits_of_clear(material: Material, judge: str) -> Mapping[float, float]:
    """Thresholds in the judge's own embedding."""
    clear = clear_comparison(material, judge, material.evaluation)
    return limits_of(Attempt(clear, clear, None))


def distance(material: Material, judge: str) -> Interval | str:
    """KID between the results and clear gallery photos of other people, on the judge's embeddings of mean square 1."""
    probes = material.evaluation.probes
    gallery = first(material.evaluation.gallery, PHOTOS)
    results, clear = material.anonymized(judge, probes), material.clear(judge, gallery)
    found, shown = results.any(dim=1), clear.any(dim=1)
    people, others = identities(probes)[found], identities(gallery)[shown]
    if min(len(people.unique()), len(others.unique())) < 4:
        return f"the judge finds the faces of fewer than 4 people: {len(people.unique())} of {len(probes)} results"
    scale = results.shape[1] ** 0.5
    return kernel_distance_interval(results[found] * scale, clear[shown] * scale, people, others)
