"""From what an attack and a judge make of the probes to figures with intervals."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from veil.evaluation.material import Attempt
from veil.metrics.identification import MRR, RANKS, Comparison, recognition
from veil.metrics.information import BITS, bits_left, doubt_after, fit_temperature
from veil.metrics.intervals import Interval, bootstrap_mean
from veil.metrics.measure import NAIVE, WORST, Figure, Measure
from veil.metrics.paired import Column, paired_difference
from veil.metrics.subgroups import RANK1_OF_WORST, worst_mean
from veil.metrics.verification import AREA, EQUAL_ERROR_RATE, TAR, Pairs, pairs, thresholds, verification

RANK1 = RANKS[1]
HEADLINES = (RANK1, TAR[1e-3], BITS)
TRANSFER_GAP = Measure(
    "transfer_gap",
    "rank-1 of the worst held-out judge less the white box's; below 0 the white box sees more",
    "privacy",
    bounds=(-1, 1),
    prominence=1,
)


class Outcome(NamedTuple):
    """One attack, one judge: a number for each probe, in the probes' order, and the pairs behind the curves."""

    ranks: Float[np.ndarray, " p"]
    accepted: dict[float, Float[np.ndarray, " p"]]  # by FAR
    bits: Float[np.ndarray, " p"] | None  # None where there are no attacker people to calibrate on
    pairs: Pairs | None  # None where fewer than two probed people have a template that shows a face
    people: Int[np.ndarray, " p"]
    enrolled: int


def outcome(target: Comparison, limits: Mapping[float, float], attackers: Comparison | None) -> Outcome:
    """What the attack makes of each probe.

    A template in which the judge finds no face is left out; who has no other cannot be recognised, and counts so.

    Args:
        limits: thresholds by FAR.
        attackers: the same comparison of attacker people.

    """
    everybody, faced = target.people, seen(target)
    possible = torch.isin(target.probed, faced.enrolled)
    ranks = torch.full((len(possible),), float(everybody), dtype=torch.float64)
    accepted = {far: torch.zeros(len(possible), dtype=torch.float64) for far in limits}
    bits = torch.zeros(len(possible), dtype=torch.float64) if attackers is not None else None
    part = faced._replace(probes=target.probes[possible], probed=target.probed[possible])
    if possible.any():
        found = recognition(part, limits)
        ranks[possible] = found.rank
        for far, share in found.accepted.items():
            accepted[far][possible] = share
        if bits is not None and attackers is not None:
            known = seen(attackers)
            known_possible = torch.isin(known.probed, known.enrolled)
            known = known._replace(probes=known.probes[known_possible], probed=known.probed[known_possible])
            if known_possible.any():
                doubt = doubt_after(len(known.probes))
                bits[possible] = bits_left(part, fit_temperature(known, doubt), doubt)
    return Outcome(
        ranks.numpy(),
        {far: share.numpy() for far, share in accepted.items()},
        None if bits is None else bits.numpy(),
        pairs(part) if len(part.probed.unique()) > 1 else None,
        target.probed.numpy(),
        everybody,
    )


def seen(comparison: Comparison) -> Comparison:
    """Without templates that show no face."""
    shown = comparison.templates.any(dim=1)
    return comparison._replace(templates=comparison.templates[shown], enrolled=comparison.enrolled[shown])


def figures(result: Outcome, **place: str) -> list[Figure]:
    """Figures of an outcome; `place` says whose: `subject`, `attack`, `condition`, `control` of `Figure`."""
    ranks = {measure: (result.ranks <= k).astype(float) for k, measure in RANKS.items() if k < result.enrolled}
    means = {**ranks, MRR: 1 / result.ranks, **{TAR[far]: share for far, share in result.accepted.items()}}
    found = [Figure(measure, bootstrap_mean(values, result.people), **place) for measure, values in means.items()]
    found.append(Figure(RANK1_OF_WORST, worst_mean(means.get(RANK1, means[MRR]), result.people), **place))
    few = "too few impostor pairs: fewer than 10 would lie above its threshold"
    found += [Figure(measure, few, **place) for far, measure in TAR.items() if far not in result.accepted]
    if result.bits is None:
        reason = "no anonymised photos of attacker people to calibrate the posterior on"
        found.append(Figure(BITS, reason, **place))
    else:
        found.append(Figure(BITS, bits_interval(result.bits, result.people), **place))
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
    mean = bootstrap_mean(own, np.arange(len(own)), event=False)
    return Interval(max(0.0, mean.value), max(0.0, mean.low), max(0.0, mean.high), len(bits))


def limits_of(attempt: Attempt) -> Mapping[float, float]:
    """Thresholds set on clear impostor pairs of evaluated people."""
    clear = seen(attempt.clear)
    known = torch.isin(clear.probed, clear.enrolled)
    return thresholds(pairs(clear._replace(probes=clear.probes[known], probed=clear.probed[known])).impostors)


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
    theirs = [(attack, judge) for attack, judge in cells if judge in held_out and attack not in variants]
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
    return arrays
