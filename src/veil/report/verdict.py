"""A run in a sentence. It says what was found, never that a face is safe."""

from collections.abc import Iterable, Mapping
from typing import Any

from veil.evaluation.results import Results
from veil.metrics.identification import RANKS
from veil.metrics.image import COVERAGE, DETECTED, SSIM
from veil.metrics.measure import ANONYMISED, CLEAR, WORST, Figure, name_of, percent

RANK1 = RANKS[1]


def attacks(results: Results, judges: set[str]) -> list[Figure]:
    """Rank-1 of every attack on what was anonymised, by `judges` and by those that need none, as far as it was
    measured; without those that pose another threat than the headline's.
    """
    return [
        figure
        for figure in results.measured.values()
        if figure.measure == RANK1
        and figure.condition == ANONYMISED
        and figure.attack not in ("", *results.variants)
        and figure.subject in {*judges, ""}
    ]


def verdict(results: Results, config: Mapping[str, Any]) -> str:
    """Worst attack, clear ceiling, chance, utility; what is missing is named.

    Args:
        results: the run's.
        config: the run's.

    """
    measured = results.measured
    covered = measured.get(name_of(COVERAGE))
    coverage = covered.value if covered else config["ratio"]  # None: nobody told
    headline, attack, notes = _headline(results, config)
    people = results.faces.get("people")
    chance = f"{percent(1 / people)} by chance" if people else ""
    ceiling = _ceiling(measured, attack) if attack else ""
    compared = ", against " + " and ".join(filter(None, [ceiling, chance])) if headline else ""
    if attack and attack.subject and not ceiling:
        notes.append("No ceiling on clear photos was measured.")
    found = f"{_attacked(headline, attack)}{compared}{_utility(measured)}"
    parts = [
        f"With {percent(coverage)} of the view repainted, {found}." if coverage else f"Of these pictures: {found}."
    ]
    parts += [f"This rests on {attack.name}."] if attack else []
    count = len(results.flag_kinds)
    if count:
        raised = "1 kind of flag is raised: read it" if count == 1 else f"{count} kinds of flag are raised: read them"
        notes.append(f"{raised} before quoting this.")
    return " ".join([*parts, *notes, "An attack that was not tried may do better."])


def _headline(results: Results, config: Mapping[str, Any]) -> tuple[Figure | None, Figure | None, list[str]]:
    """The rank-1 that counts, the attack and judge that it is of, and what a reader must know of it."""
    missing = Figure(RANK1, "it was not measured", subject=WORST)
    worst = results.figures.get(missing.name, missing)
    if not worst.absent:
        return worst, results.figures.get(worst.source), []
    notes = [f"The worst figure over all attacks ({worst.name}) is missing: {worst.absent}."]
    tried = attacks(results, results.held_out)
    if not any(figure.subject for figure in tried):
        tried = attacks(results, {config["choices"]["recognizer"]})
        notes += ["No held-out judge attacked; the white box flatters the masks that it made."] if tried else []
    most = max(tried, key=lambda figure: figure.value, default=None)
    return most, most, notes


def _attacked(headline: Figure | None, attack: Figure | None) -> str:
    if headline is None:
        return "nobody was asked who it is: this run says nothing about privacy"
    who = f" ({' on '.join(filter(None, (attack.attack, attack.subject)))})" if attack else ""
    value, low, high, _ = headline.interval
    return f"the worst attack{who} still names the person in {percent(value)} ({RANK1.between(low, high)}) of photos"


def _ceiling(measured: Mapping[str, Figure], attack: Figure) -> str:
    clear = measured.get(name_of(RANK1, attack.subject, condition=CLEAR))
    return f"{percent(clear.value)} of clear photos" if clear else ""


def _utility(measured: Mapping[str, Figure]) -> str:
    similar, detected = (measured.get(name_of(measure)) for measure in (SSIM, DETECTED))
    said = [f"the face keeps an SSIM of {similar.value:.2f}"] if similar else []
    said += [f"a detector still finds {percent(detected.value)} of faces"] if detected else []
    return f"; {' and '.join(said)}" if said else ""


OPINION = {  # of an anonymisation: WP29, Opinion 05/2014 on anonymisation techniques, section 2.2
    "Singling out": "can one person's photo be told from all others'?",
    "Linkability": "can two photos of one person be found to be of one person?",
    "Inference": "can what is true of a person be read off?",
}


def three_tests(results: Results) -> list[tuple[str, str, Figure | None]]:
    """The tests of the Article 29 Working Party, each with what it asks and the figure that speaks of it; None where
    this run has none. No figure shows that a test is passed.
    """

    def worst(chosen: Iterable[Figure]) -> Figure | None:
        return max(chosen, key=lambda figure: figure.value, default=None)

    named = attacks(results, results.held_out)
    figures = results.measured.values()
    found = (
        worst(named),
        worst(figure for figure in named if figure.attack in results.linking),
        worst(figure for figure in figures if figure.measure.name == "attributes" and figure.condition == ANONYMISED),
    )
    return [(test, asks, figure) for (test, asks), figure in zip(OPINION.items(), found, strict=True)]
