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
from veil.metrics.intervals import Interval, bootstrap_mean, share_interval
from veil.metrics.measure import NAIVE, WORST, Figure, Measure
from veil.metrics.open_set import FNIR, misses
from veil.metrics.paired import Column, paired_difference
from veil.metrics.subgroups import RANK1_OF_WORST, worst_mean
from veil.metrics.verification import (
    AREA,
    EQUAL_ERROR_RATE,
    TAR,
    Pairs,
    Strangers,
    pairs,
    shares_above,
    strangers_of,
    verification,
)

RANK1 = RANKS[1]
WITHOUT_ATTACKERS = "no anonymised photos of attacker people, on whose impostor pairs and posteriors it is calibrated"
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
    doubt: float  # variance of their mean when the threshold is set anew


class Outcome(NamedTuple):
    """One attack, one judge: a number for each probe, in the probes' order, and the pairs behind the curves."""

    ranks: Float[np.ndarray, " p"]
    accepted: dict[float, Accepted | str]  # by FAR; or why there is no threshold
    missed: Mapping[float, Interval | str]  # FNIR by FPIR; or why there is none
    bits: Float[np.ndarray, " p"] | None  # None where there are no attacker people to calibrate on
    pairs: Pairs | None  # None where fewer than two probed people have a template that shows a face
    people: Int[np.ndarray, " p"]
    enrolled: int


def outcome(target: Comparison, attackers: Comparison | None) -> Outcome:
    """What the attack makes of each probe.

    A template in which the judge finds no face is left out; who has no other cannot be recognised, and counts so.
    Thresholds are set on impostor pairs of the same kind, of attacker people's probes with everybody's templates: what
    strangers reach on clear photos says nothing about repainted ones.

    Args:
        attackers: the same comparison of attacker people.

    """
    faced, people = seen(target), target.people
    possible = torch.isin(target.probed, faced.enrolled)
    part = faced._replace(probes=target.probes[possible], probed=target.probed[possible])
    known = None if attackers is None else probed_templates(seen(attackers))
    accepted: dict[float, Accepted | str] = dict.fromkeys(FARS, WITHOUT_ATTACKERS)
    missed: Mapping[float, Interval | str] = dict.fromkeys(FNIR, WITHOUT_ATTACKERS)
    bits = None
    every = pairs(part) if possible.any() else None
    if known is not None and len(known.probes) and every is not None:
        both = Comparison(
            known.probes,
            known.probed,
            torch.cat([known.templates, part.templates]),
            torch.cat([known.enrolled, part.enrolled]),
        )
        strangers = strangers_of(pairs(both))
        accepted = {far: _accepted(part, possible, every, strangers, far) for far in FARS}
        missed = _missed(target, possible, part, known)
        doubt = doubt_after(len(known.probes))
        bits = torch.zeros(len(possible), dtype=torch.float64)
        bits[possible] = bits_left(part, fit_temperature(known, doubt), doubt)
    ranks = torch.full((len(possible),), float(people), dtype=torch.float64)
    if possible.any():
        ranks[possible] = recognition(part, {}).rank
    return Outcome(
        ranks.numpy(),
        accepted,
        missed,
        None if bits is None else bits.numpy(),
        every if len(part.probed.unique()) > 1 else None,
        target.probed.numpy(),
        people,
    )


def probed_templates(comparison: Comparison) -> Comparison:
    """The probes of people who have a template."""
    here = torch.isin(comparison.probed, comparison.enrolled)
    return comparison._replace(probes=comparison.probes[here], probed=comparison.probed[here])


def _accepted(
    part: Comparison, possible: Bool[Tensor, " p"], every: Pairs, strangers: Strangers, far: float
) -> Accepted | str:
    """Shares of the possible probes' genuine pairs; the others have none that could be accepted."""
    reason = strangers.unsupported(far)
    if reason:
        return reason
    limit = strangers.threshold(far)
    shares = torch.zeros(len(possible), dtype=torch.float64)
    shares[possible] = recognition(part, {far: limit}).accepted[far]
    own = every.probed == every.enrolled
    _, templates = np.unique(part.enrolled.numpy(), return_counts=True)  # of each person, numbered as in `every`
    weights = 1 / templates[every.probed[own]]
    moved = shares_above(every.cosines[own], weights, strangers.resampled(far)) * possible.double().mean().item()
    return Accepted(shares.numpy(), limit, float(moved.var()))


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
            accepted if isinstance(accepted, str) else share_interval(accepted.shares, result.people, accepted.doubt)
        )
        found.append(Figure(TAR[far], interval, **place))
    found += [Figure(FNIR[fpir], missed, **place) for fpir, missed in result.missed.items()]
    bits = WITHOUT_ATTACKERS if result.bits is None else bits_interval(result.bits, result.people)
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
    theirs = [(attack, judge) for attack, judge in cells if judge in ("", *held_out) and attack not in variants]
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
