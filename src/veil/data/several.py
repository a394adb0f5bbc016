"""Whose face is meant where a photo shows several: the one that the person's other photos show."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from veil.types import Embeddings

Embed = Callable[[Sequence[Path]], Embeddings]  # crops -> unit vectors, one each

# Mean cosine (the packaged FaceNet) of a face to the person's other photos: at least this, and this much above the next
# face's. Of 100 AT&T photos, 99 % of the pairs of one person are above 0.57, 95 % of those of two people below 0.44.
SAME, MARGIN = 0.45, 0.1


class Choice(NamedTuple):
    """Which face each photo stands for."""

    paths: list[Path | None]
    chosen: list[str]  # keys: another face than the main one
    confirmed: list[str]  # keys: the main one
    undecided: list[str]  # keys: the main one, for want of a reason


def choose_faces(
    keys: Sequence[str],
    people: Sequence[str],
    paths: Sequence[Path | None],
    others: Mapping[str, Sequence[Path]],
    embed: Embed | None,
) -> Choice:
    """Take the face that is most like the faces of the person's other photos, each compared by its own best match.

    Nothing is decided where the person has no other photo, where the best face is less like them than `SAME`, or where
    the next is nearly as like: two people who are always photographed together.

    Args:
        keys, people, paths: of the photos: their names, who is on them, the main face's crop or None.
        others: by key, the crops of further faces.
        embed: a recogniser; without one nothing is decided.

    """
    choice = Choice(list(paths), [], [], [])
    photos: dict[str, list[int]] = {}
    for number, person in enumerate(people):
        if paths[number] is not None:
            photos.setdefault(person, []).append(number)
    for numbers in photos.values():
        several = [number for number in numbers if keys[number] in others]
        if not several:
            continue
        faces = {
            number: [path for path in (paths[number], *others.get(keys[number], ())) if path] for number in numbers
        }
        vectors = _vectors(faces, embed) if embed and len(numbers) > 1 else {}
        for number in several:
            best = _best(number, vectors)
            told = choice.undecided if best is None else choice.chosen if best else choice.confirmed
            told.append(keys[number])
            choice.paths[number] = faces[number][best or 0]
    return choice


def _vectors(faces: Mapping[int, Sequence[Path]], embed: Embed) -> dict[int, ndarray]:
    every = embed([path for paths in faces.values() for path in paths]).numpy()
    ends = np.cumsum([len(paths) for paths in faces.values()])
    return dict(zip(faces, np.split(every, ends[:-1]), strict=True))


def _best(number: int, vectors: Mapping[int, ndarray]) -> int | None:
    """Which face of a photo the others of its person show; None where they do not tell."""
    if not vectors:
        return None
    like = np.mean(
        [(vectors[number] @ rest.T).max(axis=1) for other, rest in vectors.items() if other != number], axis=0
    )
    best, second = np.argsort(-like)[:2]
    return int(best) if like[best] >= SAME and like[best] - like[second] >= MARGIN else None
