"""Aligned faces of a data set, served in batches."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from veil.data.inventory import Inventory, Twin
from veil.data.photos import Photos
from veil.data.several import Embed, choose_faces
from veil.data.split import attacker_people, face_seed, per_person, spread
from veil.data.twins import twins
from veil.errors import InputError
from veil.faces.crops import align
from veil.storage.progress import Stages
from veil.types import Faces, Images


class FaceSet(Dataset):
    """Some aligned faces.

    Args:
        crops: their files.
        keys: unique in the data set.
        identities: whose they are.
        numbers: each photo's position in the data set; names its files.
        seed: the run's.
        labels: what else is known of them: name -> one value a face (bool, integer or text).

    """

    def __init__(
        self,
        crops: Sequence[Path],
        keys: Sequence[str],
        identities: Sequence[int],
        numbers: Sequence[int],
        seed: int,
        labels: Mapping[str, ndarray] | None = None,
    ) -> None:
        self.crops, self.keys, self.identities = list(crops), list(keys), list(identities)
        self.numbers, self.seed, self.labels = list(numbers), seed, dict(labels or {})

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> Faces:
        try:
            with Image.open(self.crops[index]) as image:
                pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        except FileNotFoundError as error:
            raise InputError(
                f"cache: the crop of {self.keys[index]!r} is gone ({error.filename}); `task=prepare` makes it again"
            ) from error
        identity, key = torch.tensor([self.identities[index]]), self.keys[index]
        return Faces(pixels.float() / 255, identity, torch.tensor([face_seed(key, self.seed)]), (key,))

    def select(self, indices: Iterable[int]) -> "FaceSet":
        """The faces at `indices`."""
        chosen = list(indices)
        return FaceSet(
            [self.crops[index] for index in chosen],
            [self.keys[index] for index in chosen],
            [self.identities[index] for index in chosen],
            [self.numbers[index] for index in chosen],
            self.seed,
            {name: values[chosen] for name, values in self.labels.items()},
        )

    def union(self, other: "FaceSet") -> "FaceSet":
        """These faces and then those of `other`, which has the same labels."""
        return FaceSet(
            self.crops + other.crops,
            self.keys + other.keys,
            self.identities + other.identities,
            self.numbers + other.numbers,
            self.seed,
            {name: np.concatenate([values, other.labels[name]]) for name, values in self.labels.items()},
        )

    def loader(self, batch_size: int, workers: int = 0) -> DataLoader:
        """Batches of Faces in order."""
        return DataLoader(self, batch_size, num_workers=workers, collate_fn=join)


class Side(NamedTuple):
    """The photos of some of the people."""

    probes: FaceSet
    gallery: FaceSet


class Enrolment(NamedTuple):
    """A data set, aligned and split."""

    people: list[str]  # identity i is people[i]
    gallery: FaceSet
    probes: FaceSet
    not_found: list[str]  # keys of photos in which the detector finds no face
    by_box: list[str]  # keys of photos whose landmarks cannot be right: their crops follow the detector's box
    unreadable: dict[str, str]  # keys of files that are no photos, and why
    formats: list[str]  # of the files: JPEG, PNG ...
    unlabelled: str  # why there are no labels, where there are none
    inventory: Inventory  # what was left out, photos of several people, the same picture twice


def everybody(enrolment: Enrolment) -> FaceSet:
    """Gallery and probes, in the data set's order."""
    both = enrolment.gallery.union(enrolment.probes)
    return both.select(np.argsort(both.numbers).tolist())


def join(faces: Sequence[Faces]) -> Faces:
    """One batch of several."""
    images, identities, seeds, keys = zip(*faces, strict=True)
    return Faces(torch.cat(images), torch.cat(identities), torch.cat(seeds), sum(keys, ()))


def pictures(faces: FaceSet) -> Images:
    """All at once."""
    return join(list(faces.loader(32))).images


def moved(faces: Faces, device: torch.device) -> Faces:
    """The same batch on a device."""
    images, identities, seeds = (part.to(device) for part in faces[:3])
    return Faces(images, identities, seeds, faces.keys)


def enrol(
    photos: Photos,
    share: float,
    seed: int,
    cache: str,
    stages: Stages,
    on_error: str = "raise",
    embed: Embed | None = None,
) -> Enrolment:
    """Align every photo (cached by content) and split each person's into gallery and probes.

    Photos that the data set's own partition keeps from being probed are enrolled. Of a photo with several faces the one
    that the person's other photos show is taken, as far as `embed`, a recogniser, tells. Raises InputError where no
    face is found, nobody has two photos, or a photo cannot be read and `on_error` is `raise`.
    """
    aligned = align(photos, Path(cache).expanduser() / "crops", stages, on_error)
    choice = choose_faces(photos.keys, photos.people, aligned.paths, aligned.others, embed)
    crops, unreadable = choice.paths, aligned.unreadable
    by_box = [key for key in aligned.by_box if key not in set(choice.chosen)]  # only main faces are cut by their box
    found = [number for number, crop in enumerate(crops) if crop is not None]
    if not found:
        raise InputError(
            f"data: MTCNN finds a face in none of the {len(photos)} photos; {len(unreadable)} cannot be read"
        )
    owners = [photos.people[number] for number in found]
    people = list(dict.fromkeys(owners))
    identity = {person: index for index, person in enumerate(people)}
    faces = FaceSet(
        [crop for crop in crops if crop is not None],
        [photos.keys[number] for number in found],
        [identity[person] for person in owners],
        found,
        seed,
        {name: values[found] for name, values in photos.labels.items()},
    )
    may_probe = None if photos.may_probe is None else photos.may_probe[found].tolist()
    parts = per_person(owners, faces.keys, share, seed, may_probe)
    if not parts.probes:
        raise InputError(
            "data: nobody has two photos of which one may be a probe; privacy is measured on people who have"
        )
    missing = [photos.keys[number] for number, crop in enumerate(crops) if crop is None]
    not_found = [key for key in missing if key not in unreadable]
    inventory = Inventory(
        photos.ignored,
        len(found) + sum(map(len, aligned.others.values())),
        choice.chosen,
        choice.confirmed,
        choice.undecided,
        found_twins(faces, set(parts.probes), stages),
    )
    return Enrolment(
        people,
        faces.select(parts.gallery),
        faces.select(parts.probes),
        not_found,
        by_box,
        unreadable,
        sorted(aligned.formats),
        photos.unlabelled,
        inventory,
    )


def found_twins(faces: FaceSet, probes: Collection[int], stages: Stages) -> list[Twin]:
    """The pairs of photos that show one picture."""
    with stages.bar("twins", len(set(faces.crops)), "photos") as advance:
        pairs = twins(faces.crops, faces.identities, advance)
    sides = ["probes" if number in probes else "gallery" for number in range(len(faces))]
    return [
        Twin(
            faces.keys[one],
            faces.keys[other],
            exact,
            (sides[one], sides[other]),
            faces.identities[one] == faces.identities[other],
        )
        for one, other, exact in pairs
    ]


def divide(enrolment: Enrolment, attackers: float, seed: int, probes: int | None = None) -> tuple[Side, Side]:
    """The people who are evaluated, and those whose photos the attacker learns from: nobody is both.

    Either side keeps at most `probes` probes, spread over its people.
    """
    known = attacker_people(enrolment.people, attackers, seed)

    def part(faces: FaceSet, attacking: bool) -> FaceSet:
        return faces.select(i for i, person in enumerate(faces.identities) if (person in known) == attacking)

    def limited(faces: FaceSet) -> FaceSet:
        if probes is None or len(faces) <= probes:
            return faces
        names = [enrolment.people[person] for person in faces.identities]
        return faces.select(spread(names, faces.keys, probes, seed))

    sides = [Side(limited(part(enrolment.probes, side)), part(enrolment.gallery, side)) for side in (False, True)]
    people = len(set(sides[0].probes.identities))
    if people < 2:
        raise InputError(f"split.attackers={attackers} leaves {people} people to evaluate; 2 or more are needed")
    return sides[0], sides[1]
