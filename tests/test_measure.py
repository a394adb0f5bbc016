"""What a number is, how it is written, and what it is called."""

import json
from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest

from veil.metrics.identification import RANKS
from veil.metrics.image import PSNR
from veil.metrics.information import BITS
from veil.metrics.intervals import Interval
from veil.metrics.measure import CLEAR, CONTROL, WORST, Figure, Measure, by_name, percent
from veil.metrics.per_face import PerFace, measured
from veil.metrics.privacy import COSINE
from veil.metrics.verification import TAR

SPACE = "\N{NO-BREAK SPACE}"
RANK1 = RANKS[1]
SURE = Interval(0.5, 0.4, 0.6, 10)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0"), (1, "100"), (0.5, "50"), (0.1, "10"), (0.7125, "71.2"), (0.0004, "0.04"), (0.9996, "99.96")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == f"{text}{SPACE}%"


def test_each_measure_has_its_unit() -> None:
    assert RANK1.text(0.25) == f"25{SPACE}%"
    assert TAR[1e-3].text(0.984) == f"98.4{SPACE}%"
    assert PSNR.text(20.44) == f"20.4{SPACE}dB"
    assert BITS.text(3.21) == f"3.2{SPACE}bits"
    assert COSINE.text(-0.0123) == "-0.012"
    assert RANK1.between(0.62, 0.8) == f"62 to 80{SPACE}%"
    assert COSINE.between(-0.1, 0.2) == "-0.100 to 0.200"


def test_figures_are_named_by_their_place() -> None:
    named = {
        "privacy/dlib/rank1": Figure(RANK1, SURE, "dlib", "naive"),
        "privacy/dlib/linkage/rank1": Figure(RANK1, SURE, "dlib", "linkage"),
        "privacy/worst/rank1": Figure(RANK1, SURE, WORST),
        "clear/dlib/rank1": Figure(RANK1, SURE, "dlib", condition=CLEAR),
        "control/fill/dlib/rank1": Figure(RANK1, SURE, "dlib", condition=CONTROL, control="fill"),
        "privacy/dlib/linkage/rank1@glasses": Figure(RANK1, SURE, "dlib", "linkage", group="glasses"),
        "utility/psnr": Figure(PSNR, SURE),
    }
    assert {name: figure.name for name, figure in named.items()} == {name: name for name in named}
    assert list(by_name(named.values())) == sorted(named)
    with pytest.raises(ValueError, match="privacy/dlib/rank1: measured twice"):
        by_name([named["privacy/dlib/rank1"], Figure(RANK1, "no face", "dlib", "naive")])
    assert [f"tar@far=1e-{power}" for power in (2, 3, 4)] == [measure.name for measure in TAR.values()]


@pytest.mark.parametrize("result", [SURE, "too few people"])
def test_a_figure_outlives_its_file(result: Interval | str) -> None:
    figure = Figure(RANK1, result, "a/b", "linkage", CLEAR, "fill", "glasses", "privacy/dlib/rank1")
    read = Figure.from_json(json.loads(json.dumps(figure.to_json())), RANK1)
    assert read == figure
    assert read.name == figure.name
    assert all(replace(figure, **{name: "other"}) != figure for name in ("subject", "attack", "condition", "group"))


def test_an_absent_figure_has_no_value() -> None:
    figure = Figure(RANK1, "too few people", "dlib")
    assert figure.absent == "too few people"
    with pytest.raises(ValueError, match="privacy/dlib/rank1 is absent: too few people"):
        _ = figure.value


def test_any_marked_function_is_a_metric() -> None:
    @measured(Measure("size", "how large", "utility"))
    def size(images: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
        return torch.where(identities > 0, images.flatten(1).sum(dim=1), torch.nan)

    metric = PerFace(size)
    for first in (0, 2):
        metric.update(torch.arange(first, first + 2), images=torch.full((2, 3), 1.0 + first), unasked="ignored")
    assert metric.measure.name == "size"
    found = metric.compute()
    assert found is not None
    assert (found.value, found.n) == (pytest.approx((3 + 9 + 9) / 3), 3)


def test_what_is_no_share_of_faces_has_no_interval_of_events() -> None:
    """Coverage 1 of every face, a pose error of 0: the same for everybody is known exactly."""
    people = torch.arange(30).repeat_interleave(2)

    def interval(event: bool, value: float) -> Interval | None:
        measure = Measure("m", "a number", "check", "share", (0, 1), event=event)
        metric = PerFace(measured(measure)(lambda values: values))
        metric.update(people, values=torch.full((60,), value))
        return metric.compute()

    assert interval(False, 1.0) == Interval(1.0, 1.0, 1.0, 60)
    assert interval(False, 0.0) == Interval(0.0, 0.0, 0.0, 60)
    always = interval(True, 1.0)
    assert always is not None
    assert (always.value, always.high, always.n) == (1, 1, 60)
    assert always.low == pytest.approx(binomtest(30, 30).proportion_ci(0.95, "wilson").low, abs=0.004)
