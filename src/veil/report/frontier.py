"""Privacy against utility: which candidates no other beats in both."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from veil.metrics.intervals import Interval
from veil.metrics.measure import ANONYMISED, NAIVE, WORST, Figure
from veil.report.runs import Candidate

FIRST = {  # measure and subject of the axes that are shown first; None: the white box
    "privacy": (("rank1", WORST), ("bits", WORST), ("rank1", None), ("fooled", None)),
    "utility": (("ssim", ""),),
}


NAMED = 20  # candidates of a front that have a name in the picture


class Axis(NamedTuple):
    """A figure whose better way is known, and between what it lies: its bounds, or the ends of what was measured."""

    figure: Figure  # one of those in this place
    worst: float
    best: float

    def gain(self, value: float) -> float:
        """How far it is from the worst to the best, in [0, 1]."""
        return (value - self.worst) / (self.best - self.worst)


def axes(found: Sequence[Candidate], asked: Sequence[str] = ()) -> list[Axis]:
    """Every figure of privacy or utility that matters, or is asked for by name, and tells candidates apart; privacy
    first, the headline of each kind before the others.
    """
    values: dict[str, list[float]] = {}
    places: dict[str, Figure] = {}
    for candidate in found:
        for name, figure in candidate.measured.items():
            if _matters(figure) or (name in asked and figure.measure.better):
                places[name] = figure
                values.setdefault(name, []).append(figure.value)
    built = [_axis(figure, values[name]) for name, figure in places.items()]
    recognizer = found[0].runs[0].config["choices"]["recognizer"] if found else ""
    return sorted(filter(None, built), key=lambda axis: (axis.figure.measure.kind, _place(axis.figure, recognizer)))


def _matters(figure: Figure) -> bool:
    plain = figure.condition == ANONYMISED and figure.attack in ("", NAIVE) and not figure.group
    known = figure.measure.kind in ("privacy", "utility") and figure.measure.better
    return bool(plain and known and (figure.measure.prominence or figure.subject == WORST))


def _axis(figure: Figure, values: Sequence[float]) -> Axis | None:
    least, most = figure.measure.bounds
    low, high = (min(values) if least is None else least), (max(values) if most is None else most)
    if low == high:
        return None
    return Axis(figure, low, high) if figure.measure.better == "higher" else Axis(figure, high, low)


def _place(figure: Figure, recognizer: str) -> int:
    order = [(name, recognizer if subject is None else subject) for name, subject in FIRST[figure.measure.kind]]
    place = (figure.measure.name, figure.subject)
    return order.index(place) if place in order else len(order)


def chosen(found: Sequence[Candidate], asked: Sequence[str] = ()) -> tuple[Axis, Axis] | None:
    """The two axes that are asked for by name; else those that are shown first, of those that all candidates have, else
    that any has. None without two.
    """
    every = axes(found, asked)
    if asked:
        named = {axis.figure.name: axis for axis in every}
        return named[asked[0]], named[asked[1]]
    pair = []
    for kind in ("privacy", "utility"):
        mine = [axis for axis in every if axis.figure.measure.kind == kind]
        whole = [axis for axis in mine if all(axis.figure.name in candidate.measured for candidate in found)]
        pair += (whole or mine)[:1]
    return (pair[0], pair[1]) if len(pair) == 2 else None


def undominated(points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Whether no other point is at least as good in both, and better in one; higher is better."""
    x, y = points.T
    as_good = (x >= x[:, None]) & (y >= y[:, None])
    better = (x > x[:, None]) | (y > y[:, None])
    return np.logical_not(np.any(as_good & better, axis=1))


def hypervolume(points: Float[np.ndarray, "n 2"]) -> float:
    """The area that the points, in [0, 1] with higher better, dominate (Zitzler and Thiele 1998): 1 is the best."""
    area, reached = 0.0, 0.0
    for x, y in sorted(points.tolist(), reverse=True):
        area += x * max(y - reached, 0.0)
        reached = max(reached, y)
    return area


class Frontier(NamedTuple):
    """Candidates that have both figures of a pair."""

    axes: tuple[Axis, Axis]
    found: list[Candidate]
    best: list[bool]  # whether no other dominates it
    volume: float

    @property
    def front(self) -> list[Candidate]:
        """Those that are not dominated."""
        return [one for one, best in zip(self.found, self.best, strict=True) if best]


def frontier(found: Sequence[Candidate], asked: Sequence[str] = ()) -> Frontier | None:
    """On the axes that are asked for, or shown first; None without two."""
    pair = chosen(found, asked)
    if pair is None:
        return None
    both = [one for one in found if all(axis.figure.name in one.measured for axis in pair)]
    gains = [[axis.gain(one.measured[axis.figure.name].value) for axis in pair] for one in both]
    points = np.array(gains).reshape(-1, 2)
    return Frontier(pair, both, undominated(points).tolist(), hypervolume(points))


def draw(frontier: Frontier, path: Path) -> None:
    """Utility against privacy: who is dominated in grey, the others with error bars of 95 %; better is right and up."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(7, 5), layout="constrained")
    plot = picture.subplots()
    lines: dict[str, list[tuple[Candidate, bool]]] = {}
    for one, best in zip(frontier.found, frontier.best, strict=True):
        lines.setdefault(f"{one.settings['masker']} + {one.settings['inpainter']}", []).append((one, best))
    for label, line in lines.items():
        line.sort(key=lambda part: part[0].settings["ratio"] or 0)
        x, y = ([one.measured[axis.figure.name].interval for one, _ in line] for axis in frontier.axes)
        plot.plot([point.value for point in x], [point.value for point in y], color="lightgrey", marker="o", zorder=1)
        kept = [at for at, (_, best) in enumerate(line) if best]
        x, y = ([side[at] for at in kept] for side in (x, y))
        ends = [point.value for point in x], [point.value for point in y]
        if kept:
            plot.errorbar(*ends, xerr=_reach(x), yerr=_reach(y), marker="o", ls="", capsize=2, label=label, zorder=2)
        for at, place in zip(kept, zip(*ends, strict=True), strict=True):
            ratio = line[at][0].settings["ratio"]
            plot.annotate(f"{ratio:g}" if ratio else "", place, textcoords="offset points", xytext=(5, 5), fontsize=8)
    for axis, side in zip(frontier.axes, (plot.xaxis, plot.yaxis), strict=True):
        side.set_inverted(axis.best < axis.worst)
        side.set_label_text(f"{axis.figure.name}, {axis.figure.measure.better} is better (95 % interval)")
    plot.grid(alpha=0.3)
    if len(frontier.front) <= NAMED:
        picture.legend(fontsize=8, title="not dominated", loc="outside lower center", ncols=2)
    picture.savefig(path, dpi=150)


def _reach(intervals: Sequence[Interval]) -> list[list[float]]:
    """Lengths of error bars below and above; rounding can leave a bound on the wrong side of its value."""
    below = [max(part.value - part.low, 0.0) for part in intervals]
    return [below, [max(part.high - part.value, 0.0) for part in intervals]]
