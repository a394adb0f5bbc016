"""What a reader must know before believing a run's figures."""

from collections.abc import Mapping, Sequence

from veil.metrics.intervals import Interval

WEAK_RANK, WEAK_TAR = 0.9, 0.5  # a recogniser below these on clear probes cannot show privacy
ASKED_OF_CLEAR = ("/accuracy", "/rank1", "/tar@far=1e-3")
SHARES = ("/accuracy", "/fooled", "/rank1", "/tar@far=1e-3")
WIDE = 0.2  # an interval wider than this says little


def raise_flags(
    metrics: Mapping[str, Interval],
    *,
    unchanged: int,
    faces: int,
    ratio: float,
    cells: int,
    not_found: Sequence[str],
    single_photo: int,
    not_held_out: Sequence[str] = (),
    same_for_every_seed: bool = False,
    trained_on: Mapping[str, int] | None = None,
    people: int = 0,
    smallest: bool = False,
    formats: Sequence[str] = (),
) -> list[str]:
    """One sentence for each assumption that failed.

    Args:
        unchanged: outputs equal to their input.
        faces: probes measured.
        cells: cells in the whole grid, not its side.
        not_found: keys of photos without a detected face.
        single_photo: people with one photo, who have no probe.
        not_held_out: judges that are the white box or a surrogate of it.
        same_for_every_seed: the diffusion model's results do not depend on the seed.
        trained_on: for each model, how many of the evaluated people it was trained on.
        people: how many are evaluated.
        smallest: each face has its own ratio, and `ratio` is the most.
        formats: of the photos' files.

    """
    flags = []
    if unchanged:
        flags.append(f"output equals input for {unchanged} of {faces} faces: nothing was repainted there")
    coverage = metrics.get("check/coverage")
    if coverage and (coverage.value - ratio if smallest else abs(coverage.value - ratio)) > 1 / cells:
        flags.append(f"coverage {coverage.value:.4f} is not the ratio {ratio} to one cell")
    for name, figure in metrics.items():
        floor = WEAK_TAR if name.endswith("/tar@far=1e-3") else WEAK_RANK
        if name.startswith("clear/") and name.endswith(ASKED_OF_CLEAR) and figure.value < floor:
            flags.append(f"weak recogniser: {name} is {figure.value:.3f}, below {floor}, on clear photos")
        if (
            name.startswith("privacy/")
            and name.endswith(SHARES)
            and name.count("/") == 2
            and figure.high - figure.low > WIDE
        ):
            flags.append(f"wide interval: {name} is known to +-{50 * (figure.high - figure.low):.0f} points only")
    flags += [f"judge {judge} is a white box: it is not held out" for judge in not_held_out]
    if same_for_every_seed:
        flags.append("the inpainter paints the same face for every seed: what it leaves is no chance result")
    for model, known in (trained_on or {}).items():
        if known:
            flags.append(f"{model} was trained on {known} of the {people} evaluated people: its figures flatter it")
    if len(formats) > 1:
        flags.append(f"mixed image formats ({', '.join(formats)}): compression may tell people apart")
    if not_found:
        flags.append(f"no face found in {len(not_found)} photos, which are left out: {', '.join(not_found[:5])}")
    if single_photo:
        flags.append(f"{single_photo} people have one photo: they are enrolled and never probed")
    return flags
