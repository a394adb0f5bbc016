"""What a reader must know before believing a run's figures."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from veil.data.inventory import Inventory
from veil.evaluation.results import Flag
from veil.metrics.identification import RANKS
from veil.metrics.image import COVERAGE
from veil.metrics.measure import ANONYMISED, CLEAR, NAIVE, Figure, percent
from veil.metrics.privacy import ACCURACY, FTA
from veil.metrics.verification import TAR

# a recogniser below these on clear probes cannot show privacy
WEAK = {ACCURACY: 0.9, RANKS[1]: 0.9, TAR[1e-3]: 0.5}
BLIND = 0.1  # a larger share of results in which a judge's own detector finds no face is said
WIDE = 0.2  # an interval of a share that is wider than this says little


class Training(NamedTuple):
    """Whom the models were trained on."""

    known: dict[str, int]  # by model, how many of the evaluated people, as its list says
    unlisted: list[str]  # models that have no list, or not of all


def raise_flags(
    figures: Iterable[Figure],
    *,
    unchanged: int,
    faces: int,
    ratio: float,
    cells: int,
    not_found: Sequence[str],
    single_photo: int,
    not_held_out: Sequence[str] = (),
    same_for_every_seed: bool = False,
    training: Training | None = None,
    people: int = 0,
    smallest: bool = False,
    formats: Sequence[str] = (),
    missing: int = 0,
    inventory: Inventory | None = None,
) -> list[Flag]:
    """One flag for each assumption that failed.

    Args:
        figures: of the run; the absent ones are passed over.
        unchanged: outputs equal to their input.
        faces: probes measured.
        cells: cells in the whole grid, not its side.
        not_found: keys of photos without a detected face.
        single_photo: people with one photo, who have no probe.
        not_held_out: judges that are the white box or a surrogate of it.
        same_for_every_seed: the diffusion model's results do not depend on the seed.
        training: of the models.
        people: how many are evaluated.
        smallest: each face has its own ratio, and `ratio` is the most.
        formats: of the photos' files.
        missing: probes of which the set has no picture; they are not among `faces`.
        inventory: photos of several people, and the same picture twice.

    """
    flags = []
    if unchanged:
        text = f"output equals input for {unchanged} of {faces} faces: nothing was repainted there"
        flags.append(Flag("output equals input", text))
    if missing:
        text = f"{missing} of {missing + faces} probes have no anonymised picture and are left out"
        flags.append(Flag("pictures are missing", text))
    for figure in figures:
        if figure.absent:
            continue
        name, value, low, high, _ = figure.name, *figure.interval
        if figure.measure == COVERAGE and (value - ratio if smallest else abs(value - ratio)) > 1 / cells:
            text = f"coverage {value:.4f} is not the ratio {ratio} to one cell"
            flags.append(Flag("coverage is not the ratio", text, (name,)))
        if figure.measure == FTA and value > BLIND:
            text = f"{figure.subject}'s own detector finds no face in {percent(value)} of the results"
            flags.append(Flag("judge's detector is blind", text, (name,)))
        if figure.condition == CLEAR and value < WEAK.get(figure.measure, 0):
            floor = WEAK[figure.measure]
            text = f"weak recogniser: {name} is {value:.3f}, below {floor}, on clear photos"
            flags.append(Flag("weak recogniser", text, (name,)))
        plain = figure.condition == ANONYMISED and figure.subject and figure.attack in ("", NAIVE) and not figure.group
        if plain and figure.measure.kind == "privacy" and figure.measure.prominence > 1 and high - low > WIDE:
            text = f"wide interval: {name} is known to +-{50 * (high - low):.0f} points only"
            flags.append(Flag("wide interval", text, (name,)))
    flags += [
        Flag("judge is a white box", f"judge {judge} is a white box: it is not held out") for judge in not_held_out
    ]
    if same_for_every_seed:
        text = "the inpainter paints the same face for every seed: what it leaves is no chance result"
        flags.append(Flag("same face for every seed", text))
    for model, known in training.known.items() if training else ():
        if known:
            text = f"{model} was trained on {known} of the {people} evaluated people: its figures flatter it"
            flags.append(Flag("trained on evaluated people", text))
    if training and training.unlisted:
        text = (
            f"nobody lists the people that {', '.join(training.unlisted)} were trained on: some of the {people} "
            "evaluated people may be among them"
        )
        flags.append(Flag("training people not known", text))
    if len(formats) > 1:
        text = f"mixed image formats ({', '.join(formats)}): compression may tell people apart"
        flags.append(Flag("mixed image formats", text))
    if inventory and inventory.leaks:
        twin = inventory.leaks[0]
        text = (
            f"{len(inventory.leaked)} probes show the same picture as an enrolled photo, or nearly ({twin.one} and "
            f"{twin.other} first): they are recognised whatever their faces"
        )
        flags.append(Flag("twins", text))
    if inventory and inventory.undecided:
        text = (
            f"{len(inventory.undecided)} photos show several faces and nothing tells whose is meant: the largest near "
            f"the middle is taken: {', '.join(inventory.undecided[:5])}"
        )
        flags.append(Flag("several faces", text))
    if not_found:
        text = f"no face found in {len(not_found)} photos, which are left out: {', '.join(not_found[:5])}"
        flags.append(Flag("no face found", text))
    if single_photo:
        text = f"{single_photo} people have one photo: they are enrolled and never probed"
        flags.append(Flag("people have one photo", text))
    return flags
