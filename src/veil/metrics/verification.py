"""Are two photos of one person? Error rates over pairs of a probe and a template, whose figure is their cosine."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.special import expit, logit
from scipy.stats import rankdata, t
from torch import Tensor

from veil.config import FARS
from veil.metrics.identification import Comparison, in_columns
from veil.metrics.intervals import LEVEL, Interval, end_interval, resample_apart, share_interval, widened
from veil.metrics.measure import Measure

SUPPORT = 10  # pairs of people among the impostor pairs above a threshold, for its FAR to be more than a guess
LOOKED_AT = 1000  # pairs from the highest down, and four times as many where a resample's threshold lies deeper
PROBED = 5  # people whose probes they are, at least
RESAMPLES = 400  # of people, in which a threshold is set anew
GRID = 512  # quantiles of either kind of pair at which resampled error rates are read
GATHERED = 2**15  # pairs of embeddings held at a time: 128 MiB of 512 floats

Shares = Float[np.ndarray, "resamples bins"]


def far_name(far: float) -> str:
    """`1e-3`."""
    return f"{far:.0e}".replace("e-0", "e-")


TAR = {
    far: Measure(
        f"tar@far={far_name(far)}",
        f"genuine pairs accepted where 1 in {1 / far:.0f} strangers is",
        "privacy",
        "share",
        (0, 1),
        better="lower",
        prominence=0 if far == 1e-4 else 2,
    )
    for far in FARS
}
EQUAL_ERROR_RATE = Measure(
    "eer",
    "error where strangers accepted and the person rejected are equally many; 50 % is chance",
    "privacy",
    "share",
    (0, 1),
    better="higher",
)
AREA = Measure(
    "auc",
    "chance that a genuine pair outscores an impostor pair; 0.5 is chance",
    "privacy",
    bounds=(0, 1),
    better="lower",
)


class Pairs(NamedTuple):
    """Pairs of a probe and a template; genuine where both are of one person, else impostors."""

    cosines: Float[np.ndarray, " n"]
    probed: Int[np.ndarray, " n"]  # the probe's person
    enrolled: Int[np.ndarray, " n"]  # the template's person

    @property
    def genuine(self) -> Float[np.ndarray, " m"]:
        """Cosines of the genuine pairs."""
        return self.cosines[self.probed == self.enrolled]

    @property
    def impostors(self) -> Float[np.ndarray, " m"]:
        """Cosines of the impostor pairs."""
        return self.cosines[self.probed != self.enrolled]


class Verification(NamedTuple):
    """Error rates over all thresholds; `n` is the number of genuine pairs."""

    equal_error_rate: Interval  # in [0, 1]; higher is more private, 0.5 is chance
    area: Interval  # under the ROC curve, in [0, 1]; lower is more private, 0.5 is chance


class Strangers(NamedTuple):
    """Impostor pairs in falling order: of them comes the threshold of each FAR, and its doubt."""

    cosines: Float[np.ndarray, " n"]
    probed: Int[np.ndarray, " n"]
    enrolled: Int[np.ndarray, " n"]

    def above(self, far: float) -> int:
        """How many of the pairs may lie above the threshold."""
        return int(far * len(self.cosines))

    def unsupported(self, far: float) -> str:
        """Why there is no threshold for this FAR; empty where there is one.

        Pairs of the same two people are alike, so the pairs of *people* among those above the threshold are counted,
        and the people whose probes they are.
        """
        couples = np.sort(np.stack([self.probed, self.enrolled], axis=1)[: self.above(far)], axis=1)
        found, probed = len(np.unique(couples, axis=0)), len(np.unique(self.probed[: self.above(far)]))
        if found >= SUPPORT and probed >= PROBED:
            return ""
        return (
            f"its threshold would rest on impostor pairs of {found} pairs of people, probes of {probed} people, of "
            f"{len(self.cosines)} impostor pairs; {SUPPORT} and {PROBED} are needed"
        )

    def threshold(self, far: float) -> float:
        """The cosine that at most a share of FAR of the pairs exceeds."""
        return float(self.cosines[self.above(far)])

    def resampled(self, far: float, resamples: int = RESAMPLES, seed: int = 0) -> Float[np.ndarray, " resamples"]:
        """The threshold when people are resampled with replacement and it is set anew: a pair weighs as often as both
        of its people were drawn (two-way bootstrap; Owen 2007, arXiv:0712.1111). Those who are only enrolled are
        resampled apart. A resample without any impostor pair is left out.
        """
        everybody, index = np.unique(np.concatenate([self.probed, self.enrolled]), return_inverse=True)
        row, column = np.split(index, 2)
        draws = resample_apart(np.isin(np.arange(len(everybody)), row), resamples, seed)
        couples = coo_array((np.ones(len(row)), (row, column)), shape=(len(everybody),) * 2).tocsr()
        totals = ((draws @ couples) * draws).sum(axis=1)
        drawn = [(draw, far * total) for draw, total in zip(draws, totals, strict=True) if total]
        return np.array([self.cosines[_reaching(draw, row, column, weight)] for draw, weight in drawn])


def _reaching(
    drawn: Float[np.ndarray, " people"], row: Int[np.ndarray, " n"], column: Int[np.ndarray, " n"], weight: float
) -> int:
    """The first pair at which the weight of the pairs so far exceeds `weight`, which is less than that of all."""
    top = LOOKED_AT
    while True:
        heaped = np.cumsum(drawn[row[:top]] * drawn[column[:top]])
        if heaped[-1] > weight:
            return int(np.searchsorted(heaped, weight, side="right"))
        top *= 4


def strangers_of(pairs: Pairs) -> Strangers:
    """The impostor pairs, sorted."""
    order = np.argsort(-pairs.cosines, kind="stable")
    order = order[pairs.probed[order] != pairs.enrolled[order]]
    return Strangers(pairs.cosines[order], pairs.probed[order], pairs.enrolled[order])


def acceptance(pairs: Pairs, strangers: Strangers | None = None) -> Mapping[float, Interval | str]:
    """TAR at each FAR over genuine pairs, a probed person's photos being alike, or why there is none.

    The interval holds the doubt about the threshold, which is set anew in each resample of the strangers.

    Args:
        strangers: impostor pairs of the same kind, of which the thresholds come; `None`: those among `pairs`.

    """
    own = pairs.probed == pairs.enrolled
    genuine, people = pairs.cosines[own], pairs.probed[own]
    strangers = strangers_of(pairs) if strangers is None else strangers
    found: dict[float, Interval | str] = {}
    for far in FARS:
        reason = "no genuine pair" if not own.any() else strangers.unsupported(far)
        if reason:
            found[far] = reason
            continue
        moved = shares_above(genuine, np.ones(len(genuine)), strangers.resampled(far))
        accepted = (genuine > strangers.threshold(far)).astype(float)
        found[far] = widened(share_interval(accepted, people), moved)
    return found


def shares_above(
    cosines: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], limits: Float[np.ndarray, " resamples"]
) -> Float[np.ndarray, " resamples"]:
    """Weighted share of the cosines above each limit."""
    order = np.argsort(-cosines)
    heaped = np.concatenate([[0.0], np.cumsum(weights[order])])
    return heaped[np.searchsorted(-cosines[order], -limits, side="left")] / heaped[-1]


def pairs(comparison: Comparison, impostors: int = 2**20, seed: int = 0) -> Pairs:
    """Every genuine pair, and every impostor pair or, of more than `impostors`, about so many drawn with replacement.

    A million impostors put 100 above the threshold of FAR 1e-4. A face that is not found has cosine 0 to everybody.
    """
    comparison = in_columns(comparison)
    probed, enrolled = comparison.probed.cpu(), comparison.enrolled.cpu()
    every = len(probed) * len(enrolled)
    if every <= impostors:
        drawn = torch.arange(every)
    else:
        drawn = torch.randint(every, (impostors,), generator=torch.Generator().manual_seed(seed))
    row, column = drawn // len(enrolled), drawn % len(enrolled)
    strangers = probed[row] != enrolled[column]
    own_row, own_column = _genuine(probed, enrolled)
    row, column = torch.cat([own_row, row[strangers]]), torch.cat([own_column, column[strangers]])
    device = comparison.probes.device
    cosines = [
        (comparison.probes[left] * comparison.templates[right]).sum(dim=1).cpu()
        for left, right in zip(row.to(device).split(GATHERED), column.to(device).split(GATHERED), strict=True)
    ]
    return Pairs(torch.cat(cosines).double().numpy(), probed[row].numpy(), enrolled[column].numpy())


def _genuine(probed: Int[Tensor, " p"], enrolled: Int[Tensor, " g"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Probe and template of every genuine pair; people are numbered from 0 and all are enrolled."""
    order, counts = enrolled.argsort(), enrolled.bincount()
    repeats = counts[probed]
    row = torch.arange(len(probed)).repeat_interleave(repeats)
    first = repeats.cumsum(0) - repeats  # of each probe's pairs
    nth = torch.arange(len(row)) - first[row]
    return row, order[(counts.cumsum(0) - counts)[probed[row]] + nth]


def equal_error_rate(genuine: Float[np.ndarray, " n"], impostors: Float[np.ndarray, " m"]) -> float:
    """Where the ROC curve, straight between its points, has as many false rejections as false acceptances."""
    edges = np.unique(np.concatenate([genuine, impostors]))
    below = [np.append(np.searchsorted(np.sort(part), edges) / len(part), 1.0) for part in (genuine, impostors)]
    return _crossing(below[0][None], 1 - below[1][None]).item()


def area(genuine: Float[np.ndarray, " n"], impostors: Float[np.ndarray, " m"]) -> float:
    """Chance that a genuine pair scores above an impostor pair, ties a half (Mann and Whitney 1947): the ROC's area."""
    n, m = len(genuine), len(impostors)
    ranks = rankdata(np.concatenate([genuine, impostors]))[:n]
    return float((ranks.sum() - n * (n + 1) / 2) / (n * m))


def verification(pairs: Pairs, resamples: int = 1000, seed: int = 0) -> Verification:
    """Equal error rate and area with 95 % intervals from their spread when people are resampled with replacement.

    An impostor pair is of two people, and both are drawn (two-way bootstrap; Owen 2007, arXiv:0712.1111), to the first
    order in how often each is, which needs a histogram of each person instead of every pair. Those who are only
    enrolled are resampled apart. A figure of exactly 0 or 1 has `end_interval`, one trial a probed person.

    Raises ValueError where fewer than two people have genuine pairs, or there is no impostor pair.
    """
    kind = pairs.probed == pairs.enrolled
    people = len(np.unique(pairs.probed[kind]))
    if people < 2 or kind.all():
        raise ValueError(f"pairs: needs genuine pairs of at least 2 people and impostor pairs, got {people} people")
    genuine, impostors = _resampled(pairs, resamples, seed)
    rejected, below = _below(genuine), np.maximum.accumulate(_below(impostors), axis=1)
    areas = (genuine * (below[:, :-1] + below[:, 1:]) / 2).sum(axis=1)
    figures = equal_error_rate(pairs.genuine, pairs.impostors), area(pairs.genuine, pairs.impostors)
    intervals = [
        Interval(value, *_logit_interval(value, resampled.std(), people), int(kind.sum()))
        for value, resampled in zip(figures, (_crossing(rejected, 1 - below), areas), strict=True)
    ]
    return Verification(*intervals)


def _logit_interval(value: float, deviation: float, people: int) -> tuple[float, float]:
    """Student's interval of the log odds, turned back: shares near 0 or 1 are skewed (Pepe 2003, section 5.2).

    A value nearer to 0 or 1 than half a person is taken for it: log odds there are no longer straight.
    """
    if min(value, 1 - value) < 0.5 / people:
        low, high = end_interval(round(value), people)
        return min(low, value), max(high, value)
    reach = t.ppf((1 + LEVEL) / 2, people - 1) * deviation / (value * (1 - value))
    return float(expit(logit(value) - reach)), float(expit(logit(value) + reach))


def _resampled(pairs: Pairs, resamples: int, seed: int) -> tuple[Shares, Shares]:
    """Share of genuine and of impostor pairs in each bin of cosines."""
    everybody, index = np.unique(np.concatenate([pairs.probed, pairs.enrolled]), return_inverse=True)
    row, column = np.split(index, 2)
    kind = row == column
    levels = np.linspace(0, 1, GRID + 1)
    grids = [np.quantile(part, levels, method="inverted_cdf") for part in (pairs.genuine, pairs.impostors)]
    edges = np.unique(np.concatenate(grids))
    place = np.searchsorted(edges, pairs.cosines, side="right") - 1

    def histograms(people: Int[np.ndarray, " m"], bins: Int[np.ndarray, " m"]) -> Float[np.ndarray, "people bins"]:
        counts = np.bincount(people * len(edges) + bins, minlength=len(everybody) * len(edges))
        return counts.reshape(len(everybody), len(edges)).astype(float)

    probed = np.isin(np.arange(len(everybody)), row[kind])
    draws = resample_apart(probed, resamples, seed)
    genuine = draws @ histograms(row[kind], place[kind])
    both = histograms(row[~kind], place[~kind]) + histograms(column[~kind], place[~kind])
    whole = both.sum(axis=0) / both.sum()
    # the change of the share per extra draw of a person; each impostor pair is in two people's histograms
    influence = 2 * (both - both.sum(axis=1, keepdims=True) * whole) / both.sum()
    return genuine / genuine.sum(axis=1, keepdims=True), whole + (draws - 1) @ influence


def _below(shares: Shares) -> Float[np.ndarray, "resamples edges"]:
    """Share below each bin's lower edge; at last 1."""
    return np.pad(shares.cumsum(axis=1), ((0, 0), (1, 0)))


def _crossing(
    rejected: Float[np.ndarray, "resamples edges"], accepted: Float[np.ndarray, "resamples edges"]
) -> Float[np.ndarray, " resamples"]:
    """False acceptances where they equal false rejections; the latter rise from 0 to 1, the former fall from 1 to 0."""
    excess = rejected - accepted
    before = np.minimum((excess <= 0).sum(axis=1), excess.shape[1] - 1)[:, None] - 1
    low, high = (np.take_along_axis(excess, at, axis=1) for at in (before, before + 1))
    start, end = (np.take_along_axis(accepted, at, axis=1) for at in (before, before + 1))
    return (start + low / (low - high) * (end - start))[:, 0]
