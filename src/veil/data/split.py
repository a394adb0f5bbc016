"""Who is enrolled and who is attacked; and each face's own seed."""

import hashlib
from collections import Counter
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


def per_person(
    people: Sequence[str], keys: Sequence[str], share: float, seed: int, may_probe: Sequence[bool] | None = None
) -> Parts:
    """Divide each person's photos, seeded by the person, so that nobody's split depends on who else is there.

    Gallery and probes share people but no photos, as in the 2022 study's re-split of CelebA. Each person keeps at
    least one photo in the gallery and, where there are two or more, at least one probe. Photos that may not be
    probes are enrolled whatever the draw.
    """
    gallery, probes = list[int](), list[int]()
    photos: dict[str, list[int]] = {}
    for index, person in enumerate(people):
        photos.setdefault(person, []).append(index)
    for person, indices in photos.items():
        by_key = sorted(indices, key=lambda index: keys[index])
        order = np.random.default_rng(face_seed(person, seed)).permutation(len(by_key))
        enrolled = min(max(round(share * len(order)), 1), max(len(order) - 1, 1))
        gallery += [by_key[position] for position in order[:enrolled]]
        for position in order[enrolled:]:
            (probes if may_probe is None or may_probe[by_key[position]] else gallery).append(by_key[position])
    return Parts(sorted(gallery), sorted(probes))


def spread(people: Sequence[str], keys: Sequence[str], count: int, seed: int) -> list[int]:
    """`count` photos of as many people as there can be: one of each person in a seeded order, then a second, ...

    A smaller count takes a part of what a larger one takes.
    """
    taken: Counter[str] = Counter()
    turns = []  # (how many of the person come first, place of the person, photo)
    for index in sorted(range(len(keys)), key=lambda index: face_seed(f"probe/{keys[index]}", seed)):
        turns.append((taken[people[index]], face_seed(f"probe/{people[index]}", seed), index))
        taken[people[index]] += 1
    return sorted(index for *_, index in sorted(turns)[:count])


def attacker_people(people: Sequence[str], share: float, seed: int) -> frozenset[int]:
    """Indices of the `share` of people, seeded by their names, whose photos the attacker learns from."""
    order = sorted(range(len(people)), key=lambda index: face_seed(f"attacker/{people[index]}", seed))
    return frozenset(order[: round(share * len(people))])
