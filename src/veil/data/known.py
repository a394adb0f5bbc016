"""Whom a model was trained on: digests of names beside its weights, so that evaluating on these people is noticed."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

FILE = "training_people.txt"
Made = TypeVar("Made")


def digest_of(person: str) -> str:
    """Twelve hexadecimal digits of a name as the data set has it."""
    return hashlib.blake2b(person.encode(), digest_size=6).hexdigest()


def write_people(people: Iterable[str], folder: Path, before: frozenset[str] = frozenset()) -> None:
    """Keep who a model was trained on, one digest a line.

    Args:
        before: digests of the people that its weights were trained on before.

    """
    digests = sorted({digest_of(person) for person in people} | before)
    (folder / FILE).write_text("".join(f"{digest}\n" for digest in digests))


def read_people(folder: str | Path) -> frozenset[str]:
    """Digests of the people that a model was trained on; empty where its makers left no list."""
    path = Path(folder, FILE)
    return frozenset(path.read_text().split()) if path.is_file() else frozenset()


def lists_people(folder: str | Path) -> bool:
    """Whether a model's makers left a list of the people that it was trained on."""
    return Path(folder, FILE).is_file()


def untrained(paint: Callable[..., Made]) -> Callable[..., Made]:
    """Mark a function that learned from nobody."""
    paint.people_listed = True  # type: ignore[attr-defined]
    return paint


def people_are_listed(model: object) -> bool:
    """Whether it is known whom a model was trained on; one that does not say so by `people_listed` is not known."""
    return getattr(getattr(model, "func", model), "people_listed", False)


def known_people(people: Iterable[str], digests: frozenset[str]) -> list[str]:
    """Those of `people` that are among `digests`."""
    return [person for person in people if digest_of(person) in digests]
