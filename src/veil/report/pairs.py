"""Runs of a sweep against each other, on the same probes."""

import csv
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from veil.metrics.paired import Column, mcnemar, paired_difference
from veil.store import Row

ALIKE = ("data", "recognizer", "inpainter", "ratio", "seed")


def paired_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rank-1 of every attack and judge, second run less first, for each two runs that differ in the masker alone.

    `low`, `high` (95 %) and `p` are by resampled people; `p_mcnemar` takes probes as independent.
    """
    rows = []
    for first, second in combinations(runs, 2):
        if first["masker"] == second["masker"] or any(first[key] != second[key] for key in ALIKE):
            continue
        before, after = _columns(Path(first["folder"])), _columns(Path(second["folder"]))
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


def _columns(folder: Path) -> dict[str, Column]:
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys, people = [row["key"] for row in rows], np.array([int(row["label"]) for row in rows])
    names = [name for name in rows[0] if name.startswith("privacy/") and name.endswith("/rank1")]
    return {name: Column(keys, np.array([float(row[name]) for row in rows]), people) for name in names}
