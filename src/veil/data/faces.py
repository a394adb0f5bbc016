"""Aligned faces of a data set: cropped once, kept by content, served in batches."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from veil.config import InputError
from veil.data.align import ALIGNMENT, crop_face, find_faces
from veil.data.align import Photo as Pixels
from veil.data.folder import Photo
from veil.data.split import attacker_people, face_seed, per_person
from veil.progress import Stages
from veil.types import Faces

DETECTION_BATCH = 32


class FaceSet(Dataset):
    """Some aligned faces: paths of their crops, and whose they are."""

    def __init__(
        self, crops: Sequence[Path], keys: Sequence[str], identities: Sequence[int], numbers: Sequence[int], seed: int
    ) -> None:
        self.crops, self.keys, self.identities = list(crops), list(keys), list(identities)
        self.numbers = list(numbers)  # each photo's position in the data set; names its files
        self.seeds = [face_seed(key, seed) for key in keys]
        self.seed = seed

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> Faces:
        with Image.open(self.crops[index]) as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        identity, seed = torch.tensor([self.identities[index]]), torch.tensor([self.seeds[index]])
        return Faces(pixels.float() / 255, identity, seed, (self.keys[index],))

    def select(self, indices: Iterable[int]) -> "FaceSet":
        """The faces at `indices`."""
        rows = [(self.crops[i], self.keys[i], self.identities[i], self.numbers[i]) for i in indices]
        crops, keys, identities, numbers = zip(*rows, strict=True) if rows else ((), (), (), ())
        return FaceSet(crops, keys, identities, numbers, self.seed)

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


def join(faces: Sequence[Faces]) -> Faces:
    """One batch of several."""
    images, identities, seeds, keys = zip(*faces, strict=True)
    return Faces(torch.cat(images), torch.cat(identities), torch.cat(seeds), sum(keys, ()))


def moved(faces: Faces, device: torch.device) -> Faces:
    """The same batch on a device."""
    images, identities, seeds = (part.to(device) for part in faces[:3])
    return Faces(images, identities, seeds, faces.keys)


def enrol(photos: Sequence[Photo], share: float, seed: int, cache: str, stages: Stages) -> Enrolment:
    """Align every photo (cached by content) and split each person's into gallery and probes."""
    crops = align(photos, Path(cache).expanduser() / "crops", stages)
    found = [number for number, crop in enumerate(crops) if crop is not None]
    if not found:
        raise InputError(f"data: MTCNN finds a face in none of the {len(photos)} photos")
    people = list(dict.fromkeys(photos[number].person for number in found))
    identity = {person: index for index, person in enumerate(people)}
    faces = FaceSet(
        [crop for crop in crops if crop is not None],
        [photos[number].key for number in found],
        [identity[photos[number].person] for number in found],
        found,
        seed,
    )
    parts = per_person([photos[number].person for number in found], faces.keys, share, seed)
    if not parts.probes:
        raise InputError("data: every person has one photo; privacy is measured on people with two or more")
    not_found = [photo.key for photo, crop in zip(photos, crops, strict=True) if crop is None]
    return Enrolment(people, faces.select(parts.gallery), faces.select(parts.probes), not_found)


def divide(enrolment: Enrolment, attackers: float, seed: int) -> tuple[Side, Side]:
    """The people who are evaluated, and those whose photos the attacker learns from: nobody is both."""
    known = attacker_people(enrolment.people, attackers, seed)

    def part(faces: FaceSet, attacking: bool) -> FaceSet:
        return faces.select(i for i, person in enumerate(faces.identities) if (person in known) == attacking)

    sides = [Side(part(enrolment.probes, side), part(enrolment.gallery, side)) for side in (False, True)]
    people = len(set(sides[0].probes.identities))
    if people < 2:
        raise InputError(f"split.attackers={attackers} leaves {people} people to evaluate; 2 or more are needed")
    return sides[0], sides[1]


def align(photos: Sequence[Photo], cache: Path, stages: Stages) -> list[Path | None]:
    """The crop of each photo, made once and kept by content; `None` where MTCNN finds no face."""
    contents = [photo.read() for photo in photos]
    names = [hashlib.blake2b(content, digest_size=16, person=ALIGNMENT).hexdigest() for content in contents]
    paths = [cache / name[:2] / f"{name}.png" for name in names]
    missing = [i for i, path in enumerate(paths) if not path.exists() and not path.with_suffix(".none").exists()]
    if missing:
        detector = MTCNN(device="cpu")
        with stages.bar("align", len(missing), "photos") as advance:
            for start in range(0, len(missing), DETECTION_BATCH):
                batch = missing[start : start + DETECTION_BATCH]
                pixels = [decode(contents[index], photos[index].key) for index in batch]
                _keep_crops(pixels, [paths[index] for index in batch], detector)
                advance(len(batch))
    return [path if path.exists() else None for path in paths]


def _keep_crops(photos: Sequence[Pixels], paths: Sequence[Path], detector: MTCNN) -> None:
    for pixels, path, box in zip(photos, paths, find_faces(photos, detector), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if box is None:
            path.with_suffix(".none").touch()
        else:
            partial = path.with_suffix(f".{os.getpid()}.partial")
            Image.fromarray(crop_face(pixels, box)).save(partial, format="png")
            partial.replace(path)


def decode(content: bytes, key: str) -> Pixels:
    """RGB pixels of an image file, upright; its metadata is left behind.

    Raises InputError that names the photo when it cannot be read.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"data: photo {key!r} cannot be read ({error}); repair or remove it") from error
