"""Every attack by every judge, and what comes of it."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from veil.evaluation.groups import by_groups, chosen_labels
from veil.evaluation.material import Absent, Attempt, Material, attempt, clear_comparison, is_judge_free, marked
from veil.evaluation.outcome import RANK1, Outcome, figures, headline, outcome, score_arrays
from veil.metrics.intervals import share_interval
from veil.metrics.measure import CLEAR, Figure, Measure, name_of
from veil.storage.folders import Row
from veil.types import Images

RANK1_FOUND = Measure(
    "rank1_found",
    "the true person is the best match, of the faces that the judge's own detector finds",
    "privacy",
    "share",
    (0, 1),
    better="lower",
)
Attack = Callable[[Material, str], Attempt]


class Findings(NamedTuple):
    """Figures of a run's attacks."""

    figures: list[Figure]
    columns: list[Row]  # for each probe: rank-1 of each attack and judge
    scores: dict[str, np.ndarray]
    groups: list[Row]  # rank-1 by group of photos, where the data has labels
    rebuild: Callable[[Images], Images] | None  # how the reversal makes the probes out
    threats: dict[str, str]  # what the attacker of each attack has and does, in the words of its docstring
    variants: set[str]  # attacks that pose another threat than the headline's
    linking: set[str]  # attacks that compare anonymised photos with each other


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
    linking: set[str] = set()
    keys = list(material.evaluation.probes.keys)
    columns: list[Row] = [{} for _ in keys]
    labels = chosen_labels(material.evaluation.probes.labels, groups)
    rebuild: Callable[[Images], Images] | None = None
    for attack, run in attacks.items():
        for judge in [""] if is_judge_free(run) else material.recognizers:
            try:
                tried = run(material, judge)
            except Absent as error:
                found.append(Figure(RANK1, str(error), judge, attack))
                continue
            result = cells[attack, judge] = outcome(tried.target, tried.attackers)
            variants |= {attack} if tried.variant else set()
            linking |= {attack} if tried.links else set()
            found += figures(result, subject=judge, attack=attack)
            if judge:
                shown = material.found(judge, material.evaluation.probes)
                found.append(rank1_of_found(result, shown, judge, attack))
            scores |= score_arrays(attack, judge, result)
            rebuild = tried.rebuild or rebuild
            named = name_of(RANK1, judge, attack)
            for row, rank in zip(columns, result.ranks, strict=True):
                row[named] = float(rank == 1)
    for judge in material.recognizers:
        ceiling = clear_outcome(material, judge)
        found += figures(ceiling, subject=judge, condition=CLEAR)
        scores |= score_arrays(CLEAR, judge, ceiling)
    if attacks:
        found += headline(found, cells, variants, material.whitebox, held_out, keys)
    split = by_groups(cells, labels)
    return Findings(
        [*found, *split.figures],
        columns,
        scores,
        split.rows,
        rebuild,
        {name: threat(run) for name, run in attacks.items()},
        variants,
        linking,
    )


def threat(attack: Attack) -> str:
    """The first paragraph of an attack's docstring."""
    text = inspect.getdoc(marked(attack)) or ""
    return " ".join(text.split("\n\n")[0].split())


def clear_outcome(material: Material, judge: str) -> Outcome:
    """The ceiling: the naive attack on clear probes."""
    clear = attempt(material, lambda side: clear_comparison(material, judge, side))
    return outcome(clear.target, clear.attackers)


def rank1_of_found(result: Outcome, found: Bool[Tensor, " p"], judge: str, attack: str) -> Figure:
    """Rank-1 of the probes in which the judge's own detector still finds a face; `fta` says how many are not."""
    chosen = found.numpy()
    if not chosen.any():
        return Figure(RANK1_FOUND, "the judge's own detector finds no face", judge, attack)
    hits = (result.ranks[chosen] == 1).astype(float)
    return Figure(RANK1_FOUND, share_interval(hits, result.people[chosen]), judge, attack)
