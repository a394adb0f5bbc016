"""A run in a sentence. It says what was found, never that a face is safe."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from veil.config import held_out
from veil.report.words import between, percent

Figure = Mapping[str, float]
WORST = "privacy/worst/rank1"


class Attack(NamedTuple):
    """An attack that a recogniser carried out, and the share of photos whose person it named first."""

    name: str
    judge: str
    rank1: Figure


def attacks(metrics: Mapping[str, Figure], judges: set[str]) -> list[Attack]:
    """Those by `judges`: `privacy/{judge}/rank1` is the naive one, `privacy/{judge}/{attack}/rank1` another."""
    found = []
    for name, figure in metrics.items():
        kind, judge, *attack, measure = name.split("/") if name.count("/") > 1 else (name, "", "")
        if kind == "privacy" and judge in judges and measure == "rank1":
            found.append(Attack(attack[0] if attack else "naive", judge, figure))
    return found


def verdict(figures: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Worst attack, clear ceiling, chance, utility; what is missing is named.

    Args:
        figures: what `metrics.json` holds.
        config: the run's.

    """
    metrics, absent = figures["metrics"], figures["absent"]
    coverage = metrics["check/coverage"]["value"] if "check/coverage" in metrics else config["ratio"]
    headline, notes = _headline(metrics, absent, config)
    people = figures["faces"].get("people")
    chance = f"{percent(1 / people)} by chance" if people else ""
    compared = ", against " + " and ".join(filter(None, [_ceiling(metrics, headline), chance])) if headline else ""
    notes += [] if headline is None or _ceiling(metrics, headline) else ["No ceiling on clear photos was measured."]
    parts = [f"With {percent(coverage)} of the face repainted, {_attacked(headline)}{compared}{_utility(metrics)}."]
    count = len(figures["flags"])
    notes += [f"{count} flag{'s are' if count > 1 else ' is'} raised: read them before quoting this."] if count else []
    return " ".join([*parts, *notes, "An attack that was not tried may do better."])


def _headline(
    metrics: Mapping[str, Figure], absent: Mapping[str, str], config: Mapping[str, Any]
) -> tuple[Attack | None, list[str]]:
    """The attack that names most people, and what a reader must know of it."""
    tried = attacks(metrics, held_out(config))
    if WORST in metrics:
        worst = metrics[WORST]
        same = (attack for attack in tried if math.isclose(attack.rank1["value"], worst["value"], abs_tol=1e-9))
        named = next(same, Attack("", "", worst))
        return named._replace(rank1=worst), []
    notes = [f"The worst figure over all attacks ({WORST}) is missing: {absent.get(WORST, 'it was not measured')}."]
    if not tried:
        tried = attacks(metrics, {config["choices"]["recognizer"]})
        notes.append("No held-out judge attacked; the white box flatters the masks that it made.")
    return max(tried, key=lambda attack: attack.rank1["value"], default=None), notes if tried else notes[:1]


def _attacked(attack: Attack | None) -> str:
    if attack is None:
        return "nobody was asked who it is: this run says nothing about privacy"
    who = f" ({attack.name} on {attack.judge})" if attack.name else ""
    rank1 = attack.rank1
    reach = between(WORST, rank1["low"], rank1["high"])
    return f"the worst attack{who} still names the person in {percent(rank1['value'])} ({reach}) of photos"


def _ceiling(metrics: Mapping[str, Figure], attack: Attack) -> str:
    clear = metrics.get(f"clear/{attack.judge}/rank1")
    return f"{percent(clear['value'])} of clear photos" if clear else ""


def _utility(metrics: Mapping[str, Figure]) -> str:
    said = []
    if "utility/ssim" in metrics:
        said.append(f"the face keeps an SSIM of {metrics['utility/ssim']['value']:.2f}")
    if "utility/detected" in metrics:
        said.append(f"a detector still finds {percent(metrics['utility/detected']['value'])} of faces")
    return f"; {' and '.join(said)}" if said else ""
