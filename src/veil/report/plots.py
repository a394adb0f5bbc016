"""Figures of what a recogniser sees, interactive, each with its content in words."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from plotly import graph_objects as go

from veil.metrics.measure import percent
from veil.report.curves import ByAttack, cmc, det, histogram

CLEAR, IMPOSTOR, CHANCE = "#3b86c8", "#808080", "#808080"  # 3:1 against white and near black, apart to the colour-blind
ATTACKS = ("#dd6b20", "#b060c8", "#2f9468", "#c8506e", "#8a6d3b")  # in order of appearance; their dashes differ too
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
QUOTED = 1e-3  # FAR at which the DET curve is put into words


class Drawing(NamedTuple):
    """A figure and what it shows, for who cannot see it."""

    title: str
    figure: go.Figure
    words: str


def distributions(evidence: ByAttack, thresholds: np.ndarray | None) -> Drawing | None:
    """Cosines of genuine and impostor pairs, and of genuine pairs after repainting, with the judge's thresholds."""
    figure, medians = _figure("cosine", "share of pairs"), []
    drawn = [(CLEAR, "solid", "clear", "genuine", True), (IMPOSTOR, "dot", "clear", "impostor", True)]
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
        figure.add_vline(threshold, line={"color": IMPOSTOR, "width": 1})
        figure.add_annotation(x=threshold, y=1, yref="paper", text=f"FAR {far:g}", textangle=-90, xanchor="right")
        figure.layout.annotations[-1].update(showarrow=False, yanchor="top", font_size=11)
    lines = "Upright lines: thresholds by FAR." if thresholds is not None else "No threshold is in scores.npz."
    words = (
        f"Median cosine: {'; '.join(medians)}. {lines} A face that a judge's own detector does not find has cosine 0."
    )
    return Drawing("Score distributions", figure, words)


def cumulative_matches(evidence: ByAttack, people: int) -> Drawing | None:
    """CMC: share of photos whose person is among the k best matches."""
    figure, first = _figure("rank k", "share of photos", percent_y=True), []
    for colour, dash, faces in [(CLEAR, "solid", "clear"), *((*style, attack) for style, attack in _styles(evidence))]:
        ranks = evidence.get(faces, {}).get("ranks")
        if ranks is None or not len(ranks):
            continue
        k, shares = cmc(ranks, people)
        figure.add_scatter(x=k, y=shares, name=faces, mode="lines", line={"color": colour, "dash": dash, "width": 2})
        first.append(f"{faces} {percent(shares[0])}")
    if not first:
        return None
    k, _ = cmc(np.array([1]), people)
    figure.add_scatter(
        x=k, y=k / people, name="chance", mode="lines", line={"color": CHANCE, "dash": "dot", "width": 1}
    )
    figure.update_xaxes(type="log", tickvals=[step * 10**power for power in range(7) for step in (1, 2, 5)])
    return Drawing("CMC curves", figure, f"Rank 1: {'; '.join(first)}; chance {percent(1 / people)}.")


def detection_errors(evidence: ByAttack) -> Drawing | None:
    """DET: genuine pairs rejected against impostor pairs accepted; higher after repainting is more private."""
    figure, errors = _figure("FAR: impostor pairs accepted", "FRR: genuine pairs rejected", percent_y=True), []
    for colour, dash, faces in [(CLEAR, "solid", "clear"), *((*style, attack) for style, attack in _styles(evidence))]:
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
        x=guess, y=1 - guess, name="chance", mode="lines", line={"color": CHANCE, "dash": "dot", "width": 1}
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
