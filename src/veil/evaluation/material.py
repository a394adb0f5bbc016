"""What an attacker works with: clear photos, anonymised ones, recognisers."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from veil.data.faces import FaceSet, Side
from veil.metrics.identification import Comparison
from veil.recognizers.embed import Embedder
from veil.storage.progress import Stages
from veil.types import Embeddings, Identities, Images

BATCH = 32
ATTRIBUTES = 4  # photos of each attacker person that attribute classifiers learn from
Made = TypeVar("Made")


class Absent(Exception):
    """Raised where the set does not have an anonymised photo that is asked for."""


class Attempt(NamedTuple):
    """An attack seen by one judge; all embeddings are of one space."""

    target: Comparison  # anonymised probes of the evaluated people against what the attacker holds
    clear: Comparison  # clear probes of the evaluated people against their clear gallery: sets thresholds
    attackers: Comparison | None  # as `target`, of attacker people: calibrates the posterior; None where there are none
    rebuilt: Images | None = None  # the evaluated people's probes as the attacker makes them out, where he does
    variant: bool = False  # another threat than the headline's, which leaves it out


class Needs(NamedTuple):
    """Which anonymised photos an attack takes beside the probes, in photos a person."""

    gallery: int = 0  # of the gallery, of the evaluated and of the attacker people
    attackers: int = 0  # of the attacker people, probes first


def needs(gallery: str = "", attackers: str = "") -> Callable[[Made], Made]:
    """Mark an attack with what it needs, by the names of its arguments that say how many photos of each person."""

    def mark(attack: Made) -> Made:
        attack.needs = {"gallery": gallery, "attackers": attackers}  # type: ignore[attr-defined]
        return attack

    return mark


def needs_of(attack: Callable[..., Any]) -> Needs:
    """What an attack needs, with the arguments that it was given."""
    marked = attack.func if isinstance(attack, partial) else attack
    wanted: dict[str, str] = getattr(marked, "needs", {})
    arguments = inspect.signature(attack).parameters
    return Needs(**{role: arguments[name].default for role, name in wanted.items() if name})


def needed_faces(
    attacks: Mapping[str, Callable[..., Any]], evaluation: Side, attackers: Side, attributes: bool
) -> tuple[FaceSet, FaceSet]:
    """The photos beside the evaluated probes that attacks take anonymised: of the gallery, and of the attackers."""
    every = [needs_of(attack) for attack in attacks.values()] + ([Needs(attackers=ATTRIBUTES)] if attributes else [])
    gallery, theirs = (max((need[role] for need in every), default=0) for role in (0, 1))
    if not every:
        return evaluation.gallery.select([]), attackers.probes.select([])
    known = together(attackers, theirs)
    for part in (first(attackers.gallery, gallery), attackers.probes):
        there = set(known.keys)
        known = known.union(part.select(index for index, key in enumerate(part.keys) if key not in there))
    return first(evaluation.gallery, gallery), known


class Material:
    """What attacks take. Everything is made when it is first asked for, and once.

    Args:
        evaluation, attackers: the people who are attacked, and those whose photos the attacker learns from.
        judges: by name, the white box among them.
        clear: embeddings of the clear photos, by judge and key.
        results: file of each anonymised photo, by key.
        whitebox: name of the white box.

    """

    def __init__(
        self,
        evaluation: Side,
        attackers: Side,
        judges: Mapping[str, Embedder],
        clear: Mapping[str, Mapping[str, Tensor]],
        results: Mapping[str, Path],
        whitebox: str,
        seed: int,
        stages: Stages,
    ) -> None:
        self.evaluation, self.attackers = evaluation, attackers
        self.judges, self.whitebox, self.seed, self.stages = judges, whitebox, seed, stages
        self.recognizers = {name: judge.network for name, judge in judges.items()}
        self.results, self._clear = results, clear
        self._anonymized: dict[str, dict[str, Tensor]] = {name: {} for name in judges}
        self._made: dict[str, object] = {}

    def clear(self, judge: str, faces: FaceSet) -> Embeddings:
        """Of the clear photos."""
        return torch.stack([self._clear[judge][key] for key in faces.keys])

    def anonymize(self, faces: FaceSet) -> FaceSet:
        """The same faces, anonymised. Raises Absent where the set does not have them."""
        missing = [key for key in faces.keys if key not in self.results]
        if missing:
            raise Absent(
                f"the set has no anonymised picture of {len(missing)} of {len(faces)} photos that the attack takes"
            )
        paths = [self.results[key] for key in faces.keys]
        return FaceSet(paths, faces.keys, faces.identities, faces.numbers, faces.seed)

    def anonymized(self, judge: str, faces: FaceSet) -> Embeddings:
        """Of the anonymised photos; zero where the judge finds no face."""
        seen = self._anonymized[judge]
        missing = faces.select(index for index, key in enumerate(faces.keys) if key not in seen)
        if len(missing):
            results = self.anonymize(missing)
            found = self.judges[judge].pictures(results)
            seen |= zip(results.keys, found, strict=True)
        return torch.stack([seen[key] for key in faces.keys])

    @torch.no_grad()
    def embed(self, recognizer: nn.Module, faces: FaceSet | Images, label: str) -> Embeddings:
        """Embeddings of files or of pictures, on the CPU."""
        device = next(recognizer.parameters()).device
        batches = faces.split(BATCH) if isinstance(faces, Tensor) else (face.images for face in faces.loader(BATCH))
        done = []
        with self.stages.bar(label, len(faces)) as advance:
            for images in batches:
                done.append(recognizer(images.to(device)).cpu())
                advance(len(images))
        return torch.cat(done)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, made when it is first asked for; judges share it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]  # type: ignore[return-value]


def identities(faces: FaceSet) -> Identities:
    """Whose they are."""
    return torch.tensor(faces.identities)


def first(faces: FaceSet, count: int) -> FaceSet:
    """The first `count` photos of each person."""
    taken: dict[int, int] = {}
    chosen = []
    for index, person in enumerate(faces.identities):
        taken[person] = taken.get(person, 0) + 1
        if taken[person] <= count:
            chosen.append(index)
    return faces.select(chosen)


def together(side: Side, photos: int) -> FaceSet:
    """Up to `photos` of each person, probes first."""
    return first(side.probes.union(side.gallery), photos)


def attempt(material: Material, judge: str, compare: Callable[[Side], Comparison]) -> Attempt:
    """The same comparison of evaluated people and, where the set has their photos, of attacker people."""
    known = None
    if len(material.attackers.probes):
        with suppress(Absent):
            known = compare(material.attackers)
    return Attempt(compare(material.evaluation), clear_comparison(material, judge, material.evaluation), known)


def clear_comparison(material: Material, judge: str, side: Side) -> Comparison:
    """Clear probes against the clear gallery."""
    probes, gallery = side
    return Comparison(
        material.clear(judge, probes), identities(probes), material.clear(judge, gallery), identities(gallery)
    )
