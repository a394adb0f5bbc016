"""The numbers behind the figures, from scores and ranks: few enough to draw, whatever the number of pairs."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Real

from veil.metrics.measure import CLEAR

PARTS = ("genuine", "impostor", "ranks")
BINS = 100  # of [-1, 1]: 0.02 of cosine each
POINTS = 200  # that a curve is drawn through

Cosines = Mapping[str, np.ndarray]  # genuine and impostor cosines, ranks; any may be missing
ByAttack = Mapping[str, Cosines]  # `clear`, then each attack


def read_scores(
    path: Path, judges: Iterable[str], attacks: Iterable[str]
) -> Mapping[str, tuple[ByAttack, Float[np.ndarray, "k 2"] | None]]:
    """Cosines and thresholds, rows of (FAR, cosine), of each judge that the file knows.

    In the file they are `{clear or attack}/{judge}/{genuine, impostor or ranks}` and `thresholds/{judge}`.
    """
    found = {}
    with np.load(path) as scores:
        for judge in judges:
            evidence: dict[str, dict[str, np.ndarray]] = {}
            for faces in (CLEAR, *attacks):
                names = {part: f"{faces}/{judge}/{part}" for part in PARTS}
                arrays = {part: scores[name] for part, name in names.items() if name in scores}
                if arrays:
                    evidence[faces] = arrays
            limits = f"thresholds/{judge}"
            if evidence:
                found[judge] = evidence, scores.get(limits)
    return found


def histogram(
    scores: Real[np.ndarray, " n"], bins: int = BINS
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Centres of equal bins of [-1, 1], from the first to the last that holds a score, and the share in each.

    Cosines that rounding put just outside [-1, 1] count in the outermost bins.
    """
    counts, edges = np.histogram(np.clip(scores, -1, 1), bins, range=(-1, 1))
    held = np.flatnonzero(counts)
    kept = slice(held[0], held[-1] + 1)
    return ((edges[:-1] + edges[1:]) / 2)[kept], (counts / len(scores))[kept]


def cmc(
    ranks: Real[np.ndarray, " n"], people: int, points: int = POINTS
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Cumulative match characteristic: for k = 1 .. `people`, the share of ranks that are at most k.

    Ranks count from 1, the best match. Of more than `points` values of k, as many evenly spaced in log k are kept.
    """
    every = np.arange(1, people + 1)
    kept = every if people <= points else np.unique(np.geomspace(1, people, points).round().astype(int))
    return kept, np.searchsorted(np.sort(ranks), kept, side="right") / len(ranks)


def det(
    genuine: Real[np.ndarray, " g"], impostor: Real[np.ndarray, " i"], points: int = POINTS
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Detection error trade-off (Martin et al. 1997): FAR, FRR and threshold, by rising FAR.

    A pair is accepted when its score is at least the threshold: FAR is the share of impostor pairs accepted, FRR that
    of genuine pairs rejected, as in `sklearn.metrics.det_curve`. Thresholds are impostor scores, of ranks evenly
    spaced in log FAR from one pair to all.
    """
    ordered = np.sort(impostor)
    ranks = np.unique(np.geomspace(1, len(ordered), points).round().astype(int))
    thresholds = np.unique(ordered[len(ordered) - ranks])[::-1]  # ties share a threshold
    far = 1 - np.searchsorted(ordered, thresholds, side="left") / len(ordered)
    frr = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    return far, frr, thresholds
