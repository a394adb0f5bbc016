"""Who is enrolled and who is attacked; and each face's own seed."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Parts(NamedTuple):
    """Indices of the enrolled photos and of those that are anonymised and attacked."""

    gallery: list[int]
    probes: list[int]


def face_seed(key: str, seed: int) -> int:
    """A seed in [0, 2**63) that depends on the face and the run alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()) >> 1


def per_person(people: Sequence[str], keys: Sequence[str], share: float, seed: int) -> Parts:
    """Divide each person's photos, seeded by the person, so that nobody's split depends on who else is there.

    Gallery and probes share people but no photos, as in the 2022 study's re-split of CelebA. Each person keeps at
    least one photo in the gallery and, where there are two or more, at least one probe.
    """
    gallery, probes = [], []
    photos: dict[str, list[int]] = {}
    for index, person in enumerate(people):
        photos.setdefault(person, []).append(index)
    for person, indices in photos.items():
        by_key = sorted(indices, key=lambda index: keys[index])
        order = np.random.default_rng(face_seed(person, seed)).permutation(len(by_key))
        enrolled = min(max(round(share * len(order)), 1), max(len(order) - 1, 1))
        gallery += [by_key[position] for position in order[:enrolled]]
        probes += [by_key[position] for position in order[enrolled:]]
    return Parts(sorted(gallery), sorted(probes))


def attacker_people(people: Sequence[str], share: float, seed: int) -> frozenset[int]:
    """Indices of the `share` of people, seeded by their names, whose photos the attacker learns from."""
    order = sorted(range(len(people)), key=lambda index: face_seed(f"attacker/{people[index]}", seed))
    return frozenset(order[: round(share * len(people))])
