"""Maskers against each other on the same probes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from veil.metrics.measure import ANONYMISED, Figure
from veil.metrics.paired import Column, holm, mcnemar, paired_difference
from veil.report.runs import Candidate, Run
from veil.storage.folders import Row, read_columns

RANK1 = "rank1"  # name of the measure
RESAMPLES = 10_000  # of people: a p-value can be 2e-4, which a correction for many leaves small
MOST = 30  # maskers of one comparison: 435 pairs

Joined = dict[tuple[int, tuple[int, ...]], dict[str, Column]]  # by candidate and seeds


def paired_rows(found: Sequence[Candidate]) -> list[Row]:
    """Rank-1 of every attack and judge, second less first, for each two candidates whose pictures differ by the masker,
    or its knobs, alone, and that ask this attack and judge alike. The seeds that both have count together.

    `low`, `high` (95 %) and `p` are by resampled people; `p_holm` is corrected for all the comparisons of one figure
    (Holm 1979); `p_mcnemar` takes probes as independent. Of more than `MOST` maskers that differ in nothing else, those
    are compared that are named least.
    """
    families: dict[str, list[Candidate]] = {}
    for candidate in found:
        families.setdefault(candidate.runs[0].but_masker, []).append(candidate)
    rows = []
    for family in families.values():
        compared = sorted(sorted(family, key=_named)[:MOST], key=family.index)
        if len(compared) > 1:
            columns = {id(run): _columns(run) for candidate in compared for run in candidate.runs}
            joined: Joined = {}
            rows += [row for pair in combinations(compared, 2) for row in _differences(*pair, columns, joined)]
    for name in {row["figure"] for row in rows}:
        of_figure = [row for row in rows if row["figure"] == name]
        for row, corrected in zip(of_figure, holm([row["p"] for row in of_figure]), strict=True):
            row["p_holm"] = corrected
    return sorted(rows, key=lambda row: (row["figure"], row["ratio"] or 0))


def _named(candidate: Candidate) -> float:
    """How often attacks name the person first, over all of them."""
    shares = [candidate.measured[name].value for name in _rank1(candidate.measured.values())]
    return float(np.mean(shares)) if shares else 1.0


def _rank1(figures: Iterable[Figure]) -> set[str]:
    return {
        figure.name
        for figure in figures
        if figure.measure.name == RANK1 and figure.condition == ANONYMISED and not figure.group
    }


def _columns(run: Run) -> dict[str, Column]:
    """Rank-1 of each probe, by the name of its figure."""
    names = _rank1(run.results.figures.values())
    read = read_columns(run.folder, {"key", "label", *names})
    if not read.get("key"):
        return {}
    order = sorted(range(len(read["key"])), key=read["key"].__getitem__)
    keys, people = [f"{run.seed} {read['key'][at]}" for at in order], np.array(read["label"])[order]
    return {
        name: Column(keys, np.array(read[name])[order], people) for name in names & set(read) if None not in read[name]
    }


def _differences(
    first: Candidate, second: Candidate, columns: Mapping[int, Mapping[str, Column]], joined: Joined
) -> list[Row]:
    shared = tuple(sorted({run.seed for run in first.runs} & {run.seed for run in second.runs}))
    for candidate in (first, second):
        if (id(candidate), shared) not in joined:
            parts = [columns[id(run)] for run in candidate.runs if run.seed in shared]
            joined[id(candidate), shared] = _together(parts)
    before, after = joined[id(first), shared], joined[id(second), shared]
    settings = {name: value for name, value in first.settings.items() if name != "masker"}
    rows = []
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        if one.keys == other.keys and _asked(first.runs[0], name) == _asked(second.runs[0], name):
            found = paired_difference(one, other, RESAMPLES)._asdict() | {"p_mcnemar": mcnemar(one, other).p}
            who = {"first": first.settings["masker"], "second": second.settings["masker"]}
            rows.append({**settings, "seeds": len(shared), "figure": name, **who, **found})
    return rows


def _asked(run: Run, name: str) -> tuple[Any, Any]:
    """The settings of a figure's attack, and of its judge where that is not the white box."""
    figure = run.results.figures[name]
    attacks, judges = (run.config.get(group) or {} for group in ("attacks", "judges"))
    return attacks.get(figure.attack), judges.get(figure.subject)


def _together(parts: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    """The columns that every seed has, one seed after the other."""
    found = {}
    for name in set.intersection(*(set(part) for part in parts)) if parts else ():
        keys = [key for part in parts for key in part[name].keys]
        values, people = (np.concatenate([part[name][at] for part in parts]) for at in (1, 2))
        found[name] = Column(keys, values, people)
    return found
