"""Runs of a sweep against each other, on the same probes."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from veil.evaluation.results import column_names
from veil.metrics.comparison import RANKS
from veil.metrics.paired import Column, mcnemar, paired_difference
from veil.storage.folders import Row, read_manifest

ALIKE = ("data", "recognizer", "inpainter", "ratio", "seed")


def paired_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rank-1 of every attack and judge, second run less first, for each two runs that differ in the masker alone.

    `low`, `high` (95 %) and `p` are by resampled people; `p_mcnemar` takes probes as independent.
    """
    rows = []
    for first, second in combinations(runs, 2):
        if first["masker"] == second["masker"] or any(first[key] != second[key] for key in ALIKE):
            continue
        before, after = _columns(first), _columns(second)
        for name in before.keys() & after.keys():
            found = paired_difference(before[name], after[name])
            rows.append(
                {
                    **{key: first[key] for key in ALIKE},
                    "figure": name,
                    "first": first["masker"],
                    "second": second["masker"],
                    **found._asdict(),
                    "p_mcnemar": mcnemar(before[name], after[name]).p,
                }
            )
    return sorted(rows, key=lambda row: (row["figure"], row["ratio"]))


def _columns(run: Mapping[str, Any]) -> dict[str, Column]:
    """Rank-1 of each probe, by the name of its figure."""
    rows = read_manifest(Path(run["folder"]))
    keys, people = [row["key"] for row in rows], np.array([row["label"] for row in rows])
    figures = run["results"].figures.values()
    names = column_names(figures, RANKS[1], {figure.subject for figure in figures})
    return {
        name: Column(keys, np.array([row[name] for row in rows]), people) for name in names if rows and name in rows[0]
    }
