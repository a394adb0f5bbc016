"""Curves of a run: the numbers behind them, few enough to draw whatever the number of pairs, and their drawing."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real
from plotly import graph_objects as go

from veil.metrics.measure import CLEAR, NAIVE, percent

PARTS = ("genuine", "impostor", "ranks")
BINS = 100  # of [-1, 1]: 0.02 of cosine each
POINTS = 200  # that a curve is drawn through

Cosines = Mapping[str, np.ndarray]  # genuine and impostor cosines, ranks; any may be missing
ByAttack = Mapping[str, Cosines]  # `clear`, then each attack


def read_scores(
    path: Path, judges: Iterable[str], attacks: Iterable[str]
) -> Mapping[str, tuple[ByAttack, Float[np.ndarray, "k 2"] | None]]:
    """Cosines and thresholds, rows of (FAR, cosine), of each judge that the file knows.

    In the file they are `{clear or attack}/{judge}/{genuine, impostor, ranks or thresholds}`; the thresholds are those
    of the naive attack.
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
            limits = f"{NAIVE}/{judge}/thresholds"
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


BLUE, GREY = "#3b86c8", "#808080"  # clear photos; impostors and chance: 3:1 against white and near black
ATTACKS = ("#dd6b20", "#b060c8", "#2f9468", "#c8506e", "#8a6d3b")  # in order of appearance; their dashes differ too
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
CMC = "CMC curves"
QUOTED = 1e-3  # FAR at which the DET curve is put into words


class Drawing(NamedTuple):
    """A figure and what it shows, for who cannot see it."""

    title: str
    figure: go.Figure
    words: str


def distributions(evidence: ByAttack, thresholds: np.ndarray | None) -> Drawing | None:
    """Cosines of genuine and impostor pairs, and of genuine pairs after repainting, with the judge's thresholds."""
    figure, medians = _figure("cosine", "share of pairs"), []
    drawn = [(BLUE, "solid", "clear", "genuine", True), (GREY, "dot", "clear", "impostor", True)]
    drawn += [(*style, attack, "genuine", False) for style, attack in _styles(evidence)]
    for colour, dash, faces, kind, filled in drawn:
        scores = evidence.get(faces, {}).get(kind)
        if scores is None or not len(scores):
            continue
        x, y = histogram(scores)
        name = f"{faces}, {kind}"
        line = {"color": colour, "dash": dash, "shape": "hvh", "width": 2}
        figure.add_scatter(x=x, y=y, name=name, mode="lines", line=line, fill="tozeroy" if filled else "none")
        medians.append(f"{name} {np.median(scores):.2f}")
    if not medians:
        return None
    for far, threshold in [] if thresholds is None else thresholds:
        figure.add_vline(threshold, line={"color": GREY, "width": 1})
        figure.add_annotation(x=threshold, y=1, yref="paper", text=f"FAR {far:g}", textangle=-90, xanchor="right")
        figure.layout.annotations[-1].update(showarrow=False, yanchor="top", font_size=11)
    known = thresholds is not None and len(thresholds)
    lines = "Upright lines: thresholds of the naive attack by FAR, set on attacker people's pairs of the same kind."
    words = f"Median cosine: {'; '.join(medians)}. {lines if known else 'No threshold is supported by the data.'}"
    return Drawing("Score distributions", figure, words)


def cumulative_matches(evidence: ByAttack, people: int) -> Drawing | None:
    """CMC: share of photos whose person is among the k best matches."""
    figure, first = _figure("rank k", "share of photos", percent_y=True), []
    for colour, dash, faces in [
        (BLUE, "solid", "clear"),
        *((*style, attack) for style, attack in _styles(evidence)),
    ]:
        ranks = evidence.get(faces, {}).get("ranks")
        if ranks is None or not len(ranks):
            continue
        k, shares = cmc(ranks, people)
        figure.add_scatter(x=k, y=shares, name=faces, mode="lines", line={"color": colour, "dash": dash, "width": 2})
        first.append(f"{faces} {percent(shares[0])}")
    if not first:
        return None
    k, _ = cmc(np.array([1]), people)
    figure.add_scatter(x=k, y=k / people, name="chance", mode="lines", line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_xaxes(type="log", tickvals=[step * 10**power for power in range(7) for step in (1, 2, 5)])
    return Drawing(CMC, figure, f"Rank 1: {'; '.join(first)}; chance {percent(1 / people)}.")


def detection_errors(evidence: ByAttack) -> Drawing | None:
    """DET: genuine pairs rejected against impostor pairs accepted; higher after repainting is more private."""
    figure, errors = _figure("FAR: impostor pairs accepted", "FRR: genuine pairs rejected", percent_y=True), []
    for colour, dash, faces in [
        (BLUE, "solid", "clear"),
        *((*style, attack) for style, attack in _styles(evidence)),
    ]:
        pairs = evidence.get(faces, {})
        if not all(len(pairs.get(kind, ())) for kind in ("genuine", "impostor")):
            continue
        far, frr, _ = det(pairs["genuine"], pairs["impostor"])
        figure.add_scatter(x=far, y=frr, name=faces, mode="lines", line={"color": colour, "dash": dash, "width": 2})
        allowed = frr[far <= QUOTED]
        errors.append(f"{faces} {percent(allowed[-1]) if len(allowed) else 'too few pairs to say'}")
    if not errors:
        return None
    guess = np.geomspace(1e-4, 1, 50)
    figure.add_scatter(
        x=guess, y=1 - guess, name="chance", mode="lines", line={"color": GREY, "dash": "dot", "width": 1}
    )
    figure.update_xaxes(type="log", tickformat="~g", dtick=1)
    return Drawing("DET curves", figure, f"Genuine pairs rejected at FAR {QUOTED:g}: {'; '.join(errors)}.")


def enough(ratios: np.ndarray, hidden: np.ndarray) -> Drawing:
    """Share of faces that are hidden from every white box by repainting no more of each than a ratio."""
    figure = _figure("repainted share of the face's square", "faces hidden from the white boxes", percent_y=True)
    places = np.concatenate([[0.0], np.sort(ratios[hidden])])
    shares = np.arange(len(places)) / len(ratios)
    line = {"color": ATTACKS[0], "shape": "hv", "width": 2}
    figure.add_scatter(x=places, y=shares, name="hidden", mode="lines", line=line)
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    words = f"{percent(hidden.mean())} of faces could be hidden; the others were repainted as far as the ratio allows."
    if hidden.any():
        words = f"Of the faces that could be hidden, half needed at most {percent(np.median(ratios[hidden]))}. {words}"
    return Drawing("How much it takes", figure, words)


def _styles(evidence: ByAttack) -> Iterator[tuple[tuple[str, str], str]]:
    """Colour and dash of each attack."""
    attacks = [name for name in evidence if name != "clear"]
    for index, attack in enumerate(attacks):
        yield (ATTACKS[index % len(ATTACKS)], DASHES[index % len(DASHES)]), attack


def _figure(x: str, y: str, *, percent_y: bool = False) -> go.Figure:
    """Empty axes; the page's CSS colours text and grid, so that they follow light and dark."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=340,
        margin={"l": 20, "r": 12, "t": 12, "b": 20},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)", "font_size": 11},
        dragmode=False,  # a finger that scrolls the page must not zoom
    )
    axis = {"zeroline": False, "automargin": True, "title_standoff": 8}
    figure.update_xaxes(title=x, **axis)
    figure.update_yaxes(title=y, **axis, **({"tickformat": ".0%", "range": [-0.02, 1.02]} if percent_y else {}))
    return figure
