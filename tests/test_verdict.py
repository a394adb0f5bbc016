"""A run in a sentence."""

from typing import Any

from veil.config import held_out
from veil.report.verdict import attacks, verdict

CONFIG = {
    "ratio": 0.3,
    "recognizer": {"_target_": "a"},
    "judges": {"dlib": {"_target_": "b"}, "mirror": {"_target_": "a"}},
    "choices": {"recognizer": "facenet"},
}


def figure(value: float, low: float = 0.1, high: float = 0.9) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 80}


def said(metrics: dict[str, Any], **changes: Any) -> str:
    figures = {"metrics": metrics, "flags": [], "absent": {}, "faces": {"people": 40}} | changes
    return verdict(figures, CONFIG).replace("\N{NO-BREAK SPACE}", " ")


FULL = {
    "check/coverage": figure(0.25),
    "clear/dlib/rank1": figure(1.0),
    "privacy/dlib/rank1": figure(0.2),
    "privacy/dlib/linkage/rank1": figure(0.71),
    "privacy/facenet/rank1": figure(0.9),
    "privacy/worst/rank1": figure(0.71, 0.62, 0.8),
    "utility/ssim": figure(0.614),
}


def test_the_worst_attack_is_named_with_its_interval_ceiling_and_chance() -> None:
    assert said(FULL) == (
        "With 25 % of the face repainted, the worst attack (linkage on dlib) still names the person in 71 % (62 to "
        "80 %) of photos, against 100 % of clear photos and 2.5 % by chance; the face keeps an SSIM of 0.61. An attack "
        "that was not tried may do better."
    )


def test_a_missing_worst_figure_is_said_and_the_white_box_does_not_stand_in_for_a_judge() -> None:
    rest = {name: value for name, value in FULL.items() if name != "privacy/worst/rank1"}
    sentence = said(rest, absent={"privacy/worst/rank1": "no judge is held out"})
    assert "(linkage on dlib) still names the person in 71 % (10 to 90 %)" in sentence
    assert "(privacy/worst/rank1) is missing: no judge is held out." in sentence


def test_the_white_box_alone_is_said_to_flatter() -> None:
    sentence = said({"privacy/facenet/rank1": figure(0.05), "privacy/facenet/fooled": figure(0.95)})
    assert "With 30 % of the face repainted" in sentence  # the ratio, for no coverage was measured
    assert "(naive on facenet) still names the person in 5 %" in sentence
    assert "No held-out judge attacked; the white box flatters" in sentence
    assert "No ceiling on clear photos was measured." in sentence


def test_no_attack_is_no_claim() -> None:
    sentence = said({"utility/detected": figure(0.5)}, flags=["one"])
    assert "nobody was asked who it is: this run says nothing about privacy" in sentence
    assert "by chance" not in sentence
    assert "1 flag is raised" in sentence


def test_no_sentence_says_safe() -> None:
    for metrics in (FULL, {}, {"privacy/worst/rank1": figure(0.0, 0.0, 0.05)}):
        assert "safe" not in said(metrics)
        assert said(metrics).endswith("An attack that was not tried may do better.")


def test_a_judge_that_is_the_white_box_is_not_held_out() -> None:
    assert held_out(CONFIG) == {"dlib"}
    found = attacks(FULL, {"dlib"})
    assert [(attack.name, attack.judge) for attack in found] == [("naive", "dlib"), ("linkage", "dlib")]
