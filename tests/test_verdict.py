"""A run in a sentence."""

from veil.evaluation.results import Flag, Results
from veil.metrics.identification import RANKS
from veil.metrics.image import COVERAGE, DETECTED, SSIM
from veil.metrics.intervals import Interval
from veil.metrics.measure import CLEAR, WORST, Figure, Measure, by_name
from veil.metrics.privacy import FOOLED
from veil.report.verdict import attacks, three_tests, verdict

CONFIG = {
    "ratio": 0.3,
    "recognizer": {"_target_": "a"},
    "judges": {"dlib": {"_target_": "b"}, "mirror": {"_target_": "a"}},
    "choices": {"recognizer": "facenet"},
}


def share(measure: Measure, value: float, *place: str, low: float = 0.1, high: float = 0.9, **more: str) -> Figure:
    return Figure(measure, Interval(value, low, high, 80), *place, **more)


def said(*figures: Figure, flags: int = 0) -> str:
    results = Results(by_name(figures), [Flag("one", "one")] * flags, {"people": 40}, details={"held_out": ["dlib"]})
    return verdict(results, CONFIG).replace("\N{NO-BREAK SPACE}", " ")


WORST_RANK1 = share(RANKS[1], 0.71, WORST, low=0.62, high=0.8, source="privacy/dlib/linkage/rank1")
REST = (
    share(COVERAGE, 0.25),
    share(RANKS[1], 1.0, "dlib", condition=CLEAR),
    share(RANKS[1], 0.2, "dlib", "naive"),
    share(RANKS[1], 0.71, "dlib", "linkage"),
    share(RANKS[1], 0.9, "facenet", "naive"),
    share(SSIM, 0.614),
)


def test_the_worst_attack_is_named_with_its_interval_ceiling_and_chance() -> None:
    assert said(WORST_RANK1, *REST) == (
        "With 25 % of the view repainted, the worst attack (linkage on dlib) still names the person in 71 % (62 to "
        "80 %) of photos, against 100 % of clear photos and 2.5 % by chance; the face keeps an SSIM of 0.61. This "
        "rests on privacy/dlib/linkage/rank1. An attack that was not tried may do better."
    )


def test_a_missing_worst_figure_is_said_and_the_white_box_does_not_stand_in_for_a_judge() -> None:
    sentence = said(Figure(RANKS[1], "no judge is held out", WORST), *REST)
    assert "(linkage on dlib) still names the person in 71 % (10 to 90 %)" in sentence
    assert "(privacy/worst/rank1) is missing: no judge is held out." in sentence


def test_an_attack_without_a_judge_needs_no_ceiling_and_excuses_no_missing_judge() -> None:
    masks = share(RANKS[1], 0.8, "", "mask")
    sentence = said(share(RANKS[1], 0.8, WORST, source=masks.name), masks, *REST)
    assert "(mask) still names the person in 80 %" in sentence
    assert "ceiling" not in sentence
    alone = said(share(RANKS[1], 0.9, "facenet", "naive"), masks)
    assert "(naive on facenet) still names the person in 90 %" in alone
    assert "No held-out judge attacked" in alone


def test_the_white_box_alone_is_said_to_flatter() -> None:
    sentence = said(share(RANKS[1], 0.05, "facenet", "naive"), share(FOOLED, 0.95, "facenet"))
    assert "With 30 % of the view repainted" in sentence  # the ratio, for no coverage was measured
    assert "(naive on facenet) still names the person in 5 %" in sentence
    assert "No held-out judge attacked; the white box flatters" in sentence
    assert "No ceiling on clear photos was measured." in sentence


def test_no_attack_is_no_claim() -> None:
    sentence = said(share(DETECTED, 0.5), flags=1)
    assert "nobody was asked who it is: this run says nothing about privacy" in sentence
    assert "by chance" not in sentence
    assert "1 kind of flag is raised: read it" in sentence
    assert "1 kind of flag is raised" in said(share(DETECTED, 0.5), flags=3)  # of one kind


def test_no_sentence_says_safe() -> None:
    for figures in ((WORST_RANK1, *REST), (), (share(RANKS[1], 0.0, WORST, low=0.0, high=0.05),)):
        assert "safe" not in said(*figures)
        assert said(*figures).endswith("An attack that was not tried may do better.")


def test_a_judge_that_is_the_white_box_is_not_held_out() -> None:
    found = attacks(Results(by_name(REST)), {"dlib"})
    assert {(figure.attack, figure.subject) for figure in found} == {("naive", "dlib"), ("linkage", "dlib")}


def test_the_three_tests_are_by_the_worst_held_out_figure_that_speaks_of_each() -> None:
    masks, known = share(RANKS[1], 0.8, "", "masks"), share(RANKS[1], 0.95, "", "masks_known")
    details = {"held_out": ["dlib"], "linking": ["linkage", "masks", "masks_known"], "variants": ["masks_known"]}
    results = Results(by_name([*REST, masks, known]), details=details)
    found = {test: figure and figure.name for test, _, figure in three_tests(results)}
    assert found == {
        "Singling out": "privacy/masks/rank1",
        "Linkability": "privacy/masks/rank1",
        "Inference": None,
    }
    assert all(figure is None for *_, figure in three_tests(Results({})))
