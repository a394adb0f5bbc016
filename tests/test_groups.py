"""Groups by hand."""

import numpy as np
import pytest

from veil.errors import InputError
from veil.evaluation.groups import by_groups, chosen_labels
from veil.evaluation.outcome import Outcome


def outcome(ranks: list[int], people: list[int]) -> Outcome:
    return Outcome(np.array(ranks, float), {}, {}, None, None, np.array(people), len(set(people)))


def test_each_group_has_its_rank_1_and_the_run_the_gap() -> None:
    people = [person for person in range(10) for _ in range(2)]
    glasses = np.array([person < 5 for person in people])
    ranks = [1 if worn else 1 + number % 2 for number, worn in enumerate(glasses)]  # named always, and half the time
    found = by_groups({("naive", "dlib"): outcome(ranks, people)}, {"glasses": glasses})
    assert [(row["group"], row["rank1"], row["photos"], row["people"]) for row in found.rows] == [
        ("False", 0.5, 10, 5),
        ("True", 1.0, 10, 5),
    ]
    (figure,) = found.figures
    assert figure.name == "privacy/dlib/rank1_gap@glasses"
    gap = figure.interval
    assert gap.value == pytest.approx(0.5)
    assert gap.low <= 0.5 <= gap.high


def test_small_groups_are_left_out_with_a_reason() -> None:
    people = list(range(9))
    label = np.array(["a"] * 5 + ["b"] * 4)
    found = by_groups({("linkage", "dlib"): outcome([1] * 9, people)}, {"kind": label, "name": np.array(people)})
    assert [row["group"] for row in found.rows] == ["a"]
    assert {figure.name: figure.absent for figure in found.figures} == {
        "privacy/dlib/linkage/rank1_gap@kind": "fewer than two groups of 5 people or more",
        "privacy/dlib/linkage/rank1_gap@name": "fewer than two groups of 5 people or more",
    }
    many = by_groups({("naive", "dlib"): outcome([1] * 13, list(range(13)))}, {"name": np.arange(13)})
    assert "13 values" in many.figures[0].absent


def test_an_unknown_label_is_refused() -> None:
    labels = {"glasses": np.zeros(3), "hat": np.ones(3)}
    assert set(chosen_labels(labels, None)) == {"glasses", "hat"}
    assert set(chosen_labels(labels, ["hat"])) == {"hat"}
    with pytest.raises(InputError, match=r"\['glasses', 'hat'\], got \['scarf'\]"):
        chosen_labels(labels, ["scarf"])


def test_data_without_labels_is_split_by_none_and_says_why_it_has_none() -> None:
    assert chosen_labels({}, None, "the list is not there") == {}
    with pytest.raises(InputError, match=r"^subgroups must be null.* got \['Male'\]: the list is not there$"):
        chosen_labels({}, ["Male"], "the list is not there")
