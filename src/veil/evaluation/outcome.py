"""From what an attack and a judge make of the probes to figures with intervals."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veil.config import FARS
from veil.metrics.identification import MRR, RANKS, Comparison, best_of_all, best_of_mates, recognition
from veil.metrics.information import BITS, bits_left, doubt_after, fit_temperature
from veil.metrics.intervals import Interval, bootstrap_mean, share_interval, widened
from veil.metrics.measure import NAIVE, WORST, Figure, Measure
from veil.metrics.open_set import FNIR, misses
from veil.metrics.paired import Column, paired_difference
from veil.metrics.subgroups import RANK1_OF_WORST, worst_mean
from veil.metrics.verification import (
    AREA,
    EQUAL_ERROR_RATE,
    TAR,
    Pairs,
    pairs,
    shares_above,
    strangers_of,
    verification,
)

RANK1 = RANKS[1]
FACELESS = (
    "nobody who is probed has a template in which the judge finds a face, among the evaluated or the attacker people"
)
HEADLINES = (RANK1, TAR[1e-2], TAR[1e-3], BITS)
TRANSFER_GAP = Measure(
    "transfer_gap",
    "rank-1 of the worst held-out judge less the white box's; below 0 the white box sees more",
    "privacy",
    bounds=(-1, 1),
    prominence=1,
)


class Accepted(NamedTuple):
    """Genuine pairs above the threshold of one FAR."""

    shares: Float[np.ndarray, " p"]  # of each probe's pairs
    threshold: float
    moved: Float[np.ndarray, " resamples"]  # their mean when the threshold is set anew


class Outcome(NamedTuple):
    """One attack, one judge: a number for each probe, in the probes' order, and the pairs behind the curves."""

    ranks: Float[np.ndarray, " p"]
    accepted: Mapping[float, Accepted | str]  # by FAR; or why there is no threshold
    missed: Mapping[float, Interval | str]  # FNIR by FPIR; or why there is none
    bits: Float[np.ndarray, " p"] | str  # or why they cannot be calibrated
    pairs: Pairs | None  # None where fewer than two probed people have a template that shows a face
    people: Int[np.ndarray, " p"]
    enrolled: int


def outcome(target: Comparison, attackers: Comparison | str) -> Outcome:
    """What the attack makes of each probe.

    A template in which the judge finds no face is left out; who has no other cannot be recognised, and counts so.
    Thresholds are set on impostor pairs of the same kind, of attacker people's probes with everybody's templates: what
    strangers reach on clear photos says nothing about repainted ones.

    Args:
        attackers: the same comparison of attacker people, or why there is none.

    """
    faced, people = seen(target), target.people
    possible = torch.isin(target.probed, faced.enrolled)
    part = faced._replace(probes=target.probes[possible], probed=target.probed[possible])
    every = pairs(part) if possible.any() else None
    known = FACELESS if every is None else calibrating(attackers)
    strangers = None if isinstance(known, str) else strangers_of(pairs(with_templates(known, part)))
    accepted: dict[float, Accepted | str]
    accepted = {far: str(known) if strangers is None else strangers.unsupported(far) for far in FARS}
    limits = {far: strangers.threshold(far) for far in FARS if strangers is not None and not accepted[far]}
    ranks = torch.full((len(possible),), float(people), dtype=torch.float64)
    if every is not None:
        found = recognition(part, limits)
        ranks[possible] = found.rank
        for far, limit in limits.items():
            assert strangers is not None
            moved = _moved(every, part, strangers.resampled(far)) * possible.double().mean().item()
            accepted[far] = Accepted(spread(found.accepted[far], possible), limit, moved)
    return Outcome(
        ranks.numpy(),
        accepted,
        dict.fromkeys(FNIR, known) if isinstance(known, str) else _missed(target, possible, part, known),
        known if isinstance(known, str) else spread(_bits(part, known), possible),
        every if len(part.probed.unique()) > 1 else None,
        target.probed.numpy(),
        people,
    )


def calibrating(attackers: Comparison | str) -> Comparison | str:
    """The attacker people's comparison as far as their templates show a face, or why there is none."""
    if isinstance(attackers, str):
        return attackers
    faced = seen(attackers)
    here = torch.isin(faced.probed, faced.enrolled)
    return faced._replace(probes=faced.probes[here], probed=faced.probed[here]) if here.any() else FACELESS


def with_templates(known: Comparison, part: Comparison) -> Comparison:
    """The attacker people's probes against everybody's templates."""
    templates, enrolled = torch.cat([known.templates, part.templates]), torch.cat([known.enrolled, part.enrolled])
    return known._replace(templates=templates, enrolled=enrolled)


def spread(values: Float[Tensor, " m"], possible: Bool[Tensor, " p"]) -> Float[np.ndarray, " p"]:
    """The values of the probes that can be recognised, and 0 of the others."""
    every = torch.zeros(len(possible), dtype=torch.float64)
    every[possible] = values.double()
    return every.numpy()


def _moved(every: Pairs, part: Comparison, limits: Float[np.ndarray, " resamples"]) -> Float[np.ndarray, " resamples"]:
    """The mean over probes of the share of their genuine pairs above each limit."""
    own = every.probed == every.enrolled
    _, templates = np.unique(part.enrolled.numpy(), return_counts=True)  # of each person, numbered as in `every`
    return shares_above(every.cosines[own], 1 / templates[every.probed[own]], limits)


def _bits(part: Comparison, known: Comparison) -> Float[Tensor, " m"]:
    """Bits left of each probe, the posterior fitted on attacker people."""
    doubt = doubt_after(len(known.probes))
    return bits_left(part, fit_temperature(known, doubt), doubt)


def _missed(
    target: Comparison, possible: Bool[Tensor, " p"], part: Comparison, known: Comparison
) -> Mapping[float, Interval | str]:
    """FNIR where the attacker people's probes are those of people who are not enrolled."""
    mated = torch.full((len(possible),), -2.0)
    mated[possible] = best_of_mates(part)
    others = best_of_all(known.probes, part.templates)
    return misses(mated.numpy(), target.probed.numpy(), others.numpy(), known.probed.numpy())


def seen(comparison: Comparison) -> Comparison:
    """Without templates that show no face."""
    shown = comparison.templates.any(dim=1)
    return comparison._replace(templates=comparison.templates[shown], enrolled=comparison.enrolled[shown])


def figures(result: Outcome, **place: str) -> list[Figure]:
    """Figures of an outcome; `place` says whose: `subject`, `attack`, `condition`, `control` of `Figure`."""
    ranks = {measure: (result.ranks <= k).astype(float) for k, measure in RANKS.items() if k < result.enrolled}
    means = ranks | {MRR: 1 / result.ranks}
    found = [Figure(measure, share_interval(values, result.people), **place) for measure, values in means.items()]
    found.append(Figure(RANK1_OF_WORST, worst_mean(means.get(RANK1, means[MRR]), result.people), **place))
    for far, accepted in result.accepted.items():
        interval: Interval | str = (
            accepted
            if isinstance(accepted, str)
            else widened(share_interval(accepted.shares, result.people), accepted.moved)
        )
        found.append(Figure(TAR[far], interval, **place))
    found += [Figure(FNIR[fpir], missed, **place) for fpir, missed in result.missed.items()]
    bits = result.bits if isinstance(result.bits, str) else bits_interval(result.bits, result.people)
    found.append(Figure(BITS, bits, **place))
    if result.pairs is None:
        reason = "fewer than two people with a template in which the judge finds a face"
        return found + [Figure(measure, reason, **place) for measure in (EQUAL_ERROR_RATE, AREA)]
    rates = verification(result.pairs)
    found.append(Figure(EQUAL_ERROR_RATE, rates.equal_error_rate, **place))
    return [*found, Figure(AREA, rates.area, **place)]


def bits_interval(bits: Float[np.ndarray, " p"], people: Int[np.ndarray, " p"]) -> Interval:
    """The bound max(0, mean), everybody weighing the same."""
    _, person = np.unique(people, return_inverse=True)
    own = np.bincount(person, bits) / np.bincount(person)
    mean = bootstrap_mean(own, np.arange(len(own)))
    return Interval(max(0.0, mean.value), max(0.0, mean.low), max(0.0, mean.high), len(bits))


def headline(
    found: Collection[Figure],
    cells: Mapping[tuple[str, str], Outcome],
    variants: Collection[str],
    whitebox: str,
    held_out: Collection[str],
    keys: list[str],
) -> list[Figure]:
    """Worst case over attacks and held-out judges, and the transfer gap: the worst held-out judge's naive rank-1 less
    the white box's, which is negative where masks fool their own maker more than others.

    Each worst case has the interval of the attack and judge that it is of.

    Args:
        found: the figures of all attacks and judges.
        cells: outcomes by attack and judge.
        variants: attacks that pose another threat than the headline's.
        held_out: judges that took no part in making the masks.
        keys: of the probes.

    """
    judges = ("", *held_out) if held_out else ()  # what needs no judge is a worst case beside judges only
    theirs = [(attack, judge) for attack, judge in cells if judge in judges and attack not in variants]
    reason = "no held-out judge: judges= some beside the white box and its surrogates"
    worst = []
    for measure in HEADLINES:
        candidates = [
            figure
            for figure in found
            if figure.measure == measure and (figure.attack, figure.subject) in theirs and not figure.absent
        ]
        if candidates:
            most = max(candidates, key=lambda figure: figure.value)
            worst.append(Figure(measure, most.interval, subject=WORST, source=most.name))
        else:
            missing = reason if not theirs else f"no held-out judge has {measure.name}"
            worst.append(Figure(measure, missing, subject=WORST))
    naive = [judge for attack, judge in theirs if attack == NAIVE]
    if whitebox in held_out:
        return [*worst, Figure(TRANSFER_GAP, "no white box made these pictures")]
    if not naive or (NAIVE, whitebox) not in cells:
        return [*worst, Figure(TRANSFER_GAP, reason if not theirs else "needs attacks.naive")]

    def column(judge: str) -> Column:
        result = cells[NAIVE, judge]
        return Column(keys, (result.ranks == 1).astype(float), result.people)

    best = max(naive, key=lambda judge: column(judge).values.mean())
    gap = paired_difference(column(whitebox), column(best))
    return [*worst, Figure(TRANSFER_GAP, Interval(gap.difference, gap.low, gap.high, gap.n))]


def score_arrays(attack: str, judge: str, result: Outcome) -> dict[str, np.ndarray]:
    """What `scores.npz` keeps for the report's curves."""
    arrays: dict[str, np.ndarray] = {f"{attack}/{judge}/ranks": result.ranks}
    if result.pairs is not None:
        arrays[f"{attack}/{judge}/genuine"] = result.pairs.genuine.astype(np.float32)
        arrays[f"{attack}/{judge}/impostor"] = result.pairs.impostors.astype(np.float32)
    limits = [(far, found.threshold) for far, found in result.accepted.items() if isinstance(found, Accepted)]
    arrays[f"{attack}/{judge}/thresholds"] = np.array(limits).reshape(-1, 2)
    return arrays
