"""Verification of clear photos by pairs, as Labeled Faces in the Wild asks for it (Huang et al. 2007, view 2)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import t

from veil.errors import InputError
from veil.metrics.intervals import LEVEL, Interval, end_interval
from veil.metrics.verification import GATHERED, Pairs
from veil.storage.text import text_of
from veil.types import Embeddings


class NamedPair(NamedTuple):
    """Two photos by key."""

    left: str
    right: str
    same: bool
    fold: int


class Folds(NamedTuple):
    """Accuracy of each fold, at the threshold that is best on all the others."""

    accuracies: Float[np.ndarray, " folds"]
    thresholds: Float[np.ndarray, " folds"]


def read_pairs(path: Path) -> list[NamedPair]:
    """LFW's `pairs.txt`: a line with the folds and pairs of each kind; for each fold `name m n` and `name m name n`.

    Raises InputError where the file is not that.
    """
    lines = text_of(path.read_bytes(), f"task.pairs: {path}").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    if not rows or not all(field.isdecimal() for field in rows[0]) or len(rows[0]) not in (1, 2):
        raise InputError(f"task.pairs: {path} must begin with the number of folds and of pairs, as LFW's pairs.txt")
    folds, each = (int(field) for field in ["1", *rows[0]][-2:])
    pairs = []
    for number, row in enumerate(rows[1:]):
        if len(row) not in (3, 4) or not (row[1] + row[-1]).isdecimal():
            raise InputError(f"task.pairs: {path} must have `name m n` or `name m name n`, got {' '.join(row)!r}")
        left, right = _key(row[0], row[1]), _key(row[-2] if len(row) == 4 else row[0], row[-1])
        pairs.append(NamedPair(left, right, len(row) == 3, number // (2 * each)))
    if len(pairs) != 2 * folds * each:
        raise InputError(f"task.pairs: {path} announces {folds} x 2 x {each} pairs and holds {len(pairs)}")
    return pairs


def _key(name: str, photo: str) -> str:
    return f"{name}/{name}_{int(photo):04d}"


def draw_pairs(
    keys: Sequence[str], people: Int[np.ndarray, " n"], folds: int = 10, each: int = 300, seed: int = 0
) -> list[NamedPair]:
    """In each fold `each` genuine and `each` impostor pairs, drawn as LFW's were; nobody is in two folds.

    A genuine pair is of a person drawn at random, an impostor pair of two; no pair comes twice.

    Raises InputError where a fold has not so many.
    """
    generator = np.random.default_rng(seed)
    photos: dict[int, list[int]] = {}
    for index, person in enumerate(people.tolist()):
        photos.setdefault(person, []).append(index)
    everybody = [list(photos)[place] for place in generator.permutation(len(photos))]
    pairs = []
    for fold in range(folds):
        here = [photos[person] for person in everybody[fold::folds]]
        total = sum(map(len, here))
        genuine = sum(len(own) * (len(own) - 1) // 2 for own in here)
        if min(genuine, total * (total - 1) // 2 - genuine) < each:
            raise InputError(
                f"task.each={each}: fold {fold} of {folds} has {len(here)} people, {genuine} genuine pairs and "
                f"{total * (total - 1) // 2 - genuine} others; ask for fewer pairs or fewer task.folds"
            )
        for left, right in [*_genuine(here, each, generator), *_impostors(here, each, generator)]:
            pairs.append(NamedPair(keys[left], keys[right], bool(people[left] == people[right]), fold))
    return pairs


def _genuine(photos: list[list[int]], count: int, generator: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Pairs of people drawn at random, each with the next of its own pairs until it has no more."""
    waiting = []
    for own in photos:
        first, second = np.triu_indices(len(own), 1)
        order = generator.permutation(len(first))
        if len(order):
            waiting.append(iter([(own[first[place]], own[second[place]]) for place in order[:count]]))
    while count:
        place = int(generator.integers(len(waiting)))
        pair = next(waiting[place], None)
        if pair is None:
            waiting.pop(place)
        else:
            count -= 1
            yield pair


def _impostors(photos: list[list[int]], count: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Photos of two people drawn at random; a dict keeps the order and drops what comes twice."""
    chosen: dict[tuple[int, int], None] = {}
    while len(chosen) < count:
        one, other = (photos[place] for place in generator.choice(len(photos), 2, replace=False))
        left, right = (own[int(generator.integers(len(own)))] for own in (one, other))
        chosen[min(left, right), max(left, right)] = None
    return list(chosen)


def fold_accuracies(
    cosines: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"], fold: Int[np.ndarray, " n"]
) -> Folds:
    """Share of pairs told right in each fold: a pair is called genuine where its cosine exceeds the threshold."""
    accuracies, limits = [], []
    for held_out in np.unique(fold):
        here = fold == held_out
        limits.append(best_threshold(cosines[~here], same[~here]))
        accuracies.append(float(((cosines[here] > limits[-1]) == same[here]).mean()))
    return Folds(np.array(accuracies), np.array(limits))


def best_threshold(cosines: Float[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> float:
    """Halfway between the two neighbouring cosines that tell most pairs right; of several the lowest."""
    order = np.argsort(cosines)
    values, genuine = cosines[order], same[order]
    rejected = np.concatenate([[0], np.cumsum(~genuine)])  # impostors below each cut
    accepted = genuine.sum() - np.concatenate([[0], np.cumsum(genuine)])  # genuine pairs above it
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1]]])
    possible = np.concatenate([[True], values[1:] > values[:-1], [True]])  # not between two equal cosines
    return float(cuts[np.argmax(np.where(possible, rejected + accepted, -1))])


def accuracy(folds: Folds, pairs: int, people: int) -> Interval:
    """Mean over folds with Student's 95 % interval: folds share no person, so they are the independent units.

    Where every fold is right (or wrong) throughout, the interval is that of one trial a person.
    """
    mean = float(folds.accuracies.mean())
    if mean in (0.0, 1.0):
        return Interval(mean, *end_interval(mean, people), pairs)
    count = len(folds.accuracies)
    reach = t.ppf((1 + LEVEL) / 2, count - 1) * folds.accuracies.std(ddof=1) / count**0.5
    return Interval(mean, max(mean - float(reach), 0.0), min(mean + float(reach), 1.0), pairs)


def all_pairs(embeddings: Embeddings, people: Int[np.ndarray, " n"], impostors: int = 2**20, seed: int = 0) -> Pairs:
    """Every genuine pair of two photos, and `impostors` pairs of two people drawn with replacement."""
    genuine = [_own_pairs(np.flatnonzero(people == person)) for person in np.unique(people)]
    drawn = np.random.default_rng(seed).integers(len(people), size=(2, impostors))
    strangers = drawn[:, people[drawn[0]] != people[drawn[1]]]
    left, right = np.concatenate([*genuine, strangers], axis=1)
    parts = zip(*(torch.from_numpy(side).split(GATHERED) for side in (left, right)), strict=True)
    cosines = torch.cat([(embeddings[one] * embeddings[other]).sum(dim=1) for one, other in parts])
    return Pairs(cosines.double().numpy(), people[left], people[right])


def _own_pairs(photos: Int[np.ndarray, " n"]) -> Int[np.ndarray, "2 m"]:
    first, second = np.triu_indices(len(photos), 1)
    return np.stack([photos[first], photos[second]])
