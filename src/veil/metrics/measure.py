"""What a number is (`Measure`), and a number that was measured, or why it was not (`Figure`).

A finished run is shown from these alone: nothing heavy at the top.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from veil.metrics.intervals import Interval

Form = Literal["share", "number", "dB", "bits", "degrees"]
NAIVE = "naive"  # the attack whose figures have the plain names
ANONYMISED, CLEAR, CONTROL = "anonymised", "clear", "control"
WORST = "worst"  # the subject of a worst case over judges
CHANCE = "chance"  # the control that guesses
SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Measure:
    """What a number is. Declared once, beside the function that computes it.

    Args:
        name: short, in the field's words: `rank1`. No slash.
        meaning: a plain sentence without a full stop.
        kind: which question it answers; the first part of the names of its figures.
        form: how it is printed; a share is printed as a percentage.
        bounds: the least and the largest value that is possible; None is no bound.
        better: whether higher or lower is better (for privacy: more private); empty where neither is.
        prominence: 3 is shown on the console wherever it is measured, 2 also of clear photos, 1 of anonymised alone.
        undefined: why there may be no face to take the mean of.
        event: whether a face has it or has not; its mean is then a share of faces.

    """

    name: str
    meaning: str = field(compare=False)  # another sentence is the same measure
    kind: Literal["privacy", "utility", "check", "minimal"]
    form: Form = field(default="number", compare=False)
    bounds: tuple[float | None, float | None] = field(default=(None, None), compare=False)
    better: Literal["higher", "lower", ""] = field(default="", compare=False)
    prominence: int = field(default=0, compare=False)
    undefined: str = field(default="no face that it concerns", compare=False)
    event: bool = field(default=False, compare=False)

    def text(self, value: float) -> str:
        """The value with its unit: `71.2 %`, `20.4 dB`, `0.460`."""
        if self.form == "share":
            return percent(value)
        return f"{value:.3f}" if self.form == "number" else f"{value:.1f}{SPACE}{self.form}"

    def between(self, low: float, high: float) -> str:
        """An interval; the unit is said once."""
        number, _, _ = self.text(low).partition(SPACE)
        return f"{number} to {self.text(high)}"


def name_of(
    measure: Measure,
    subject: str = "",
    attack: str = "",
    condition: str = ANONYMISED,
    control: str = "",
    group: str = "",
) -> str:
    """What a figure in this place (see `Figure`) is called. Names are made here and taken apart nowhere."""
    head = measure.kind if condition == ANONYMISED else condition
    last = f"{measure.name}@{group}" if group else measure.name
    return "/".join(part for part in (head, control, subject, "" if attack == NAIVE else attack, last) if part)


@dataclass(frozen=True)
class Figure:
    """A measure in its place, with its value and 95 % interval, or the reason why it is absent.

    Args:
        result: the interval, or the reason.
        subject: the judge, the white box, the feature network, or `WORST`; empty for the picture itself.
        attack: who tried to recognise; empty where nobody did.
        condition: of which photos: anonymised, clear, or another that the task names.
        control: the inpainter of a control, or `CHANCE`.
        group: the label by which photos are divided.
        source: name of the figure that this one repeats (the worst case).

    """

    measure: Measure
    result: Interval | str
    subject: str = ""
    attack: str = ""
    condition: str = ANONYMISED
    control: str = ""
    group: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """What it is called in files and loggers."""
        return name_of(self.measure, self.subject, self.attack, self.condition, self.control, self.group)

    @property
    def absent(self) -> str:
        """Why there is no value; empty where there is one."""
        return self.result if isinstance(self.result, str) else ""

    @property
    def interval(self) -> Interval:
        """Value, 95 % interval, number of faces. Raises ValueError where the figure is absent."""
        if isinstance(self.result, str):
            raise ValueError(f"{self.name} is absent: {self.result}")
        return self.result

    @property
    def value(self) -> float:
        """The value. Raises ValueError where the figure is absent."""
        return self.interval.value

    def to_json(self) -> dict[str, Any]:
        """Its parts that are not empty; the measure by name."""
        place = {name: getattr(self, name) for name in PLACE if getattr(self, name)}
        result = {"absent": self.result} if isinstance(self.result, str) else self.result._asdict()
        return {"measure": self.measure.name, **place, **result}

    @classmethod
    def from_json(cls, parts: dict[str, Any], measure: Measure) -> "Figure":
        """What `to_json` gave."""
        result = parts["absent"] if "absent" in parts else Interval(*(parts[name] for name in Interval._fields))
        return cls(measure, result, **{name: parts[name] for name in PLACE if name in parts})


PLACE = ("subject", "attack", "condition", "control", "group", "source")


def by_name(figures: Iterable[Figure]) -> dict[str, Figure]:
    """Figures by name, sorted. Raises ValueError where two have one name."""
    named: dict[str, Figure] = {}
    for figure in sorted(figures, key=lambda figure: figure.name):
        if figure.name in named:
            raise ValueError(f"{figure.name}: measured twice, by {named[figure.name]} and {figure}")
        named[figure.name] = figure
    return named


def percent(share: float) -> str:
    """0.7125 -> `71.2 %`, 0.5 -> `50 %`; never rounded to 0 or 100 % when it is neither."""
    for digits in range(1, 10):
        text = f"{100 * share:.{digits}f}"
        if share in (0, 1) or float(text) not in (0, 100):
            break
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{SPACE}%"
