"""Whom attacks learn from, and whom they are calibrated on."""

from pathlib import Path

import torch

from veil.data.faces import FaceSet, Side
from veil.evaluation.material import NO_ATTACKERS, NOT_HELD_BACK, Absent, Material, attempt, taught_and_held_back
from veil.metrics.identification import Comparison
from veil.storage.progress import Stages

NOBODY = FaceSet([], [], [], [], 0)


def faces(people: list[int]) -> FaceSet:
    names = [f"{person}-{index}" for index, person in enumerate(people)]
    return FaceSet([Path(name) for name in names], names, people, list(range(len(people))), 0)


def material(attackers: Side) -> Material:
    return Material(Side(NOBODY, NOBODY), attackers, {}, {}, {}, {}, "facenet", 0, Stages())


def compared(side: Side) -> Comparison:
    blank = torch.zeros(0, 2)
    return Comparison(blank, torch.zeros(0, dtype=torch.long), blank, torch.zeros(0, dtype=torch.long))


def test_a_third_of_who_has_probes_is_held_back_and_who_has_none_teaches() -> None:
    side = Side(probes=faces([*range(9)] * 2), gallery=faces([*range(12)] * 2))  # three are enrolled alone
    taught, held_back = taught_and_held_back(material(side))
    assert len(set(held_back.probes.identities)) == 3
    assert set(held_back.gallery.identities) == set(held_back.probes.identities)
    assert set(taught.gallery.identities) == set(range(12)) - set(held_back.gallery.identities)
    assert set(taught.probes.identities) == set(range(9)) - set(held_back.probes.identities)


def test_why_an_attack_is_not_calibrated_is_said_as_it_is() -> None:
    few = material(Side(probes=faces([0, 1, 2]), gallery=faces([0, 1, 2])))
    _, held_back = taught_and_held_back(few)
    assert attempt(few, compared, held_back).attackers == NOT_HELD_BACK
    assert attempt(material(Side(NOBODY, NOBODY)), compared).attackers == NO_ATTACKERS

    def missing(side: Side) -> Comparison:
        if len(side.probes):
            raise Absent("the set has no anonymised picture of 3 of 3 photos that the attack takes")
        return compared(side)

    assert "3 of 3" in str(attempt(few, missing).attackers)
    assert isinstance(attempt(few, compared).attackers, Comparison)
