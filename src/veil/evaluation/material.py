"""What an attacker works with: clear photos, anonymised ones, recognisers."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from veil.data.faces import FaceSet, Side
from veil.faces.pictures import read_pixels
from veil.metrics.identification import Comparison
from veil.recognizers.embed import Embedder
from veil.storage.progress import Stages
from veil.types import Embeddings, Identities, Images, Masks

BATCH = 32
ATTRIBUTES = 4  # photos of each attacker person that attribute classifiers learn from
Made = TypeVar("Made")
NO_ATTACKERS = (
    "no pictures of attacker people, on whose pairs it is calibrated: split.attackers leaves none, the set has none of "
    "them, or no attack asks for them"
)
FEW = 6  # attacker people, below which nobody is held back from an attack that learns
NOT_HELD_BACK = f"of fewer than {FEW} attacker people with probes none is held back, on whose pairs it is calibrated"


class Absent(Exception):
    """Raised where an attack cannot be made, with the reason: the set lacks photos, or they tell nothing."""


class Attempt(NamedTuple):
    """An attack seen by one judge; all embeddings are of one space."""

    target: Comparison  # anonymised probes of the evaluated people against what the attacker holds
    # As `target`, of attacker people, of those who taught the attacker nothing where he learns: they set thresholds,
    # calibrate the posterior, and are those who are not enrolled. Or why there are none
    attackers: Comparison | str
    rebuild: Callable[[Images], Images] | None = None  # how the attacker makes clear probes out, where he does
    variant: bool = False  # another threat than the headline's, which leaves it out
    links: bool = False  # anonymised photos are compared with each other


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


def judge_free(attack: Made) -> Made:
    """Mark an attack in which no judge takes part: it is made once, and its figures have no subject."""
    attack.judge_free = True  # type: ignore[attr-defined]
    return attack


def is_judge_free(attack: Callable[..., Any]) -> bool:
    """Whether an attack is marked so."""
    return getattr(marked(attack), "judge_free", False)


def marked(attack: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a config made an attack of: it has the marks and the docstring."""
    return attack.func if isinstance(attack, partial) else attack


def needs_of(attack: Callable[..., Any]) -> Needs:
    """What an attack needs, with the arguments that it was given."""
    wanted: dict[str, str] = getattr(marked(attack), "needs", {})
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
        results, masks: file of each anonymised photo, and of its mask, by key; a set may have no masks.
        whitebox: name of the white box.

    """

    def __init__(
        self,
        evaluation: Side,
        attackers: Side,
        judges: Mapping[str, Embedder],
        clear: Mapping[str, Mapping[str, Tensor]],
        results: Mapping[str, Path],
        masks: Mapping[str, Path],
        whitebox: str,
        seed: int,
        stages: Stages,
    ) -> None:
        self.evaluation, self.attackers = evaluation, attackers
        self.judges, self.whitebox, self.seed, self.stages = judges, whitebox, seed, stages
        self.recognizers = {name: judge.network for name, judge in judges.items()}
        self.results, self.mask_files, self._clear = results, masks, clear
        self._anonymized: dict[str, dict[str, tuple[Tensor, bool]]] = {name: {} for name in judges}
        self._made: dict[str, object] = {}

    def clear(self, judge: str, faces: FaceSet) -> Embeddings:
        """Of the clear photos."""
        return torch.stack([self._clear[judge][key] for key in faces.keys])

    def anonymize(self, faces: FaceSet) -> FaceSet:
        """The same faces, anonymised. Raises Absent where the set does not have them."""
        return self._files(faces, self.results, "anonymised picture")

    def masks(self, faces: FaceSet) -> Iterator[Masks]:
        """Where they were repainted, in batches. Raises Absent where the set does not have them."""
        files = self._files(faces, self.mask_files, "mask").crops
        for start in range(0, len(files), BATCH):
            pixels = [torch.from_numpy(read_pixels(file)[..., 0]) for file in files[start : start + BATCH]]
            yield torch.stack(pixels)[:, None] > 0

    def _files(self, faces: FaceSet, files: Mapping[str, Path], what: str) -> FaceSet:
        missing = [key for key in faces.keys if key not in files]
        if missing:
            raise Absent(f"the set has no {what} of {len(missing)} of {len(faces)} photos that the attack takes")
        paths = [files[key] for key in faces.keys]
        return FaceSet(paths, faces.keys, faces.identities, faces.numbers, faces.seed)

    def anonymized(self, judge: str, faces: FaceSet) -> Embeddings:
        """Of the anonymised photos; zero where the judge can make nothing of them."""
        return torch.stack([vector for vector, _ in self._seen(judge, faces)])

    def found(self, judge: str, faces: FaceSet) -> Bool[Tensor, " b"]:
        """In which anonymised photos the judge's own detector finds a face."""
        return torch.tensor([found for _, found in self._seen(judge, faces)])

    def _seen(self, judge: str, faces: FaceSet) -> list[tuple[Tensor, bool]]:
        seen = self._anonymized[judge]
        missing = faces.select(index for index, key in enumerate(faces.keys) if key not in seen)
        if len(missing):
            results = self.anonymize(missing)
            made = self.judges[judge].pictures(results)
            pairs = zip(made.embeddings, made.found.tolist(), strict=True)
            seen |= zip(results.keys, pairs, strict=True)
        return [seen[key] for key in faces.keys]

    @torch.no_grad()
    def embed(
        self, recognizer: nn.Module, faces: FaceSet, label: str, change: Callable[[Images], Images] | None = None
    ) -> Embeddings:
        """Embeddings of files, on the CPU; a batch at a time, so that any number of faces fits.

        Args:
            change: what is done to the pictures before the recogniser sees them.

        """
        device = device_of(recognizer)
        done = []
        with self.stages.bar(label, len(faces)) as advance:
            for batch in faces.loader(BATCH):
                images = batch.images.to(device)
                done.append(recognizer(images if change is None else change(images)).cpu())
                advance(len(images))
        return torch.cat(done)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, made when it is first asked for; judges share it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]  # type: ignore[return-value]


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


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


def attempt(material: Material, compare: Callable[[Side], Comparison], attackers: Side | None = None) -> Attempt:
    """The same comparison of evaluated people and, where the set has their photos, of attacker people: of `attackers`,
    or of all.
    """
    known: Comparison | str
    if not len((attackers or material.attackers).probes):
        known = NO_ATTACKERS if attackers is None else NOT_HELD_BACK
    else:
        try:
            known = compare(attackers or material.attackers)
        except Absent as error:
            known = str(error)
    return Attempt(compare(material.evaluation), known)


def taught_and_held_back(material: Material) -> tuple[Side, Side]:
    """The attacker people whom an attack learns from, and a third of those who have probes, who are held back: what it
    has learned by heart of the former says nothing of what strangers score. Of fewer than six nobody is held back.
    """
    few = len(set(material.attackers.probes.identities)) < FEW
    return parted(material.attackers, 0 if few else 1 / 3, material.seed)


def parted(side: Side, share: float, seed: int) -> tuple[Side, Side]:
    """A side's people without, and with only, a drawn share of those who have probes."""
    probed = sorted(set(side.probes.identities))
    order = torch.randperm(len(probed), generator=torch.Generator().manual_seed(seed)).tolist()
    drawn = {probed[index] for index in order[: int(share * len(probed) + 1e-9)]}

    def people(wanted: bool) -> Side:
        return Side(*(part.select(i for i, p in enumerate(part.identities) if (p in drawn) == wanted) for part in side))

    return people(False), people(True)


def clear_comparison(material: Material, judge: str, side: Side) -> Comparison:
    """Clear probes against the clear gallery."""
    probes, gallery = side
    return Comparison(
        material.clear(judge, probes), identities(probes), material.clear(judge, gallery), identities(gallery)
    )
