"""Figures in words."""

import pytest

from veil.report.words import amount, between, percent

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0"), (1, "100"), (0.5, "50"), (0.1, "10"), (0.7125, "71.2"), (0.0004, "0.04"), (0.9996, "99.96")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == f"{text}{SPACE}%"


def test_each_figure_has_its_unit() -> None:
    assert amount("privacy/dlib/linkage/rank1", 0.25) == f"25{SPACE}%"
    assert amount("clear/dlib/tar@far=1e-3", 0.984) == f"98.4{SPACE}%"
    assert amount("utility/psnr", 20.44) == f"20.4{SPACE}dB"
    assert amount("privacy/dlib/bits", 3.21) == f"3.2{SPACE}bits"
    assert amount("privacy/dlib/cosine", -0.0123) == "-0.012"
    assert between("privacy/dlib/rank1", 0.62, 0.8) == f"62 to 80{SPACE}%"
    assert between("privacy/dlib/cosine", -0.1, 0.2) == "-0.100 to 0.200"
