"""From what an attack and a judge make of the probes to figures with intervals."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from veil.attacks.material import Attempt
from veil.metrics.bits import bits_left, doubt_after, fit_temperature
from veil.metrics.comparison import Comparison, recognition
from veil.metrics.intervals import Interval, bootstrap_mean
from veil.metrics.paired import Column, paired_difference
from veil.metrics.tail import worst_mean
from veil.metrics.verification import FARS, Pairs, pairs, thresholds, verification

RANKS = (1, 5, 10)
HEADLINES = ("rank1", "tar@far=1e-3", "bits")
VARIANTS = ("source_enrolled",)  # another threat than the headline's: the very photo is known to the attacker


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


def figures(result: Outcome, prefix: str) -> tuple[dict[str, Interval], dict[str, str]]:
    """Figures under `prefix`, and why others are absent."""
    means = {f"rank{k}": (result.ranks <= k).astype(float) for k in RANKS if k < result.enrolled}
    means["mrr"] = 1 / result.ranks
    means |= {f"tar@far={far_name(far)}": share for far, share in result.accepted.items()}
    found = {f"{prefix}/{name}": bootstrap_mean(values, result.people) for name, values in means.items()}
    found[f"{prefix}/rank1@worst5"] = worst_mean(means.get("rank1", means["mrr"]), result.people)
    absent = {
        f"{prefix}/tar@far={far_name(far)}": "too few impostor pairs: fewer than 10 would lie above its threshold"
        for far in FARS
        if far not in result.accepted
    }
    if result.bits is None:
        absent[f"{prefix}/bits"] = "no attacker people to calibrate the posterior on: split.attackers is 0"
    else:
        found[f"{prefix}/bits"] = bits_interval(result.bits, result.people)
    if result.pairs is None:
        reason = "fewer than two people with a template in which the judge finds a face"
        absent |= {f"{prefix}/{name}": reason for name in ("eer", "auc")}
    else:
        rates = verification(result.pairs)
        found |= {f"{prefix}/eer": rates.equal_error_rate, f"{prefix}/auc": rates.area}
    return found, absent


def bits_interval(bits: Float[np.ndarray, " p"], people: Int[np.ndarray, " p"]) -> Interval:
    """The bound max(0, mean), everybody weighing the same."""
    _, person = np.unique(people, return_inverse=True)
    own = np.bincount(person, bits) / np.bincount(person)
    mean = bootstrap_mean(own, np.arange(len(own)))
    return Interval(max(0.0, mean.value), max(0.0, mean.low), max(0.0, mean.high), len(bits))


def far_name(far: float) -> str:
    """`1e-3`."""
    return f"{far:.0e}".replace("e-0", "e-")


def prefix_of(attack: str, judge: str) -> str:
    """Where an attack's figures stand: the naive one's are the plain ones."""
    return f"privacy/{judge}" if attack == "naive" else f"privacy/{judge}/{attack}"


def limits_of(attempt: Attempt) -> Mapping[float, float]:
    """Thresholds set on clear impostor pairs of evaluated people."""
    clear = seen(attempt.clear)
    known = torch.isin(clear.probed, clear.enrolled)
    return thresholds(pairs(clear._replace(probes=clear.probes[known], probed=clear.probed[known])).impostors)


def headline(
    metrics: Mapping[str, Interval],
    cells: Mapping[tuple[str, str], Outcome],
    whitebox: str,
    held_out: Collection[str],
    keys: list[str],
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Worst case over attacks and held-out judges, and the transfer gap: the worst held-out judge's naive rank-1 less
    the white box's, which is negative where masks fool their own maker more than others.

    Each worst case has the interval of the attack and judge that it is of.

    Args:
        cells: outcomes by attack and judge.
        held_out: judges that took no part in making the masks.
        keys: of the probes.

    """
    theirs = [(attack, judge) for attack, judge in cells if judge in held_out and attack not in VARIANTS]
    reason = "no held-out judge: judges= some beside the white box and its surrogates"
    worst, absent = {}, {}
    for name in HEADLINES:
        candidates = list(_named(metrics, theirs, name))
        if candidates:
            worst[f"privacy/worst/{name}"] = max(candidates, key=lambda interval: interval.value)
        else:
            absent[f"privacy/worst/{name}"] = reason if not theirs else f"no held-out judge has {name}"
    naive = [judge for attack, judge in theirs if attack == "naive"]
    if not naive or ("naive", whitebox) not in cells:
        return worst, absent | {"privacy/transfer_gap": reason if not theirs else "needs attacks.naive"}

    def column(judge: str) -> Column:
        result = cells["naive", judge]
        return Column(keys, (result.ranks == 1).astype(float), result.people)

    best = max(naive, key=lambda judge: column(judge).values.mean())
    gap = paired_difference(column(whitebox), column(best))
    return worst | {"privacy/transfer_gap": Interval(gap.difference, gap.low, gap.high, gap.n)}, absent


def _named(metrics: Mapping[str, Interval], cells: list[tuple[str, str]], name: str) -> Iterator[Interval]:
    for attack, judge in cells:
        figure = metrics.get(f"{prefix_of(attack, judge)}/{name}")
        if figure:
            yield figure


def score_arrays(attack: str, judge: str, result: Outcome) -> dict[str, np.ndarray]:
    """What `scores.npz` keeps for the report's curves."""
    arrays: dict[str, np.ndarray] = {f"{attack}/{judge}/ranks": result.ranks}
    if result.pairs is not None:
        arrays[f"{attack}/{judge}/genuine"] = result.pairs.genuine.astype(np.float32)
        arrays[f"{attack}/{judge}/impostor"] = result.pairs.impostors.astype(np.float32)
    return arrays
