"""Which part of a recogniser is trained, and what it is shown: pixels, or what its frozen part makes of them."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from veil.attacks.parrot import last_block, see
from veil.data.faces import Enrolment, FaceSet
from veil.errors import InputError
from veil.metrics.identification import Comparison
from veil.recognizers.embed import BATCH
from veil.recognizers.facenet import FaceNet
from veil.storage.atomic import whole
from veil.storage.cache import used
from veil.storage.faults import blamed
from veil.storage.fingerprint import code, digest
from veil.storage.networks import network_of
from veil.storage.progress import Stages
from veil.training.clear import compared
from veil.training.data import Rows
from veil.training.recipe import Augmentation, TrunkFitting
from veil.training.tuning import Unit
from veil.types import VIEW, Embeddings, Images


def varied(images: Images, seed: int, variant: int, augmentation: Augmentation) -> Images:
    """Variant number `variant` of one photo `(1, 3, h, w)`, the same whenever it is asked for; 0 is the photo itself.

    Args:
        seed: the face's own.

    """
    if variant == 0:
        return images
    generator = torch.Generator().manual_seed(_mixed(seed, variant))
    chance = torch.rand(10, generator=generator).tolist()  # all drawn, so that no knob moves another's draws
    flip, grey, blur, strength = chance[:4]
    zoom, right, down, light, contrast, colour = (2 * draw - 1 for draw in chance[4:])
    if flip < augmentation.flip:
        images = TF.horizontal_flip(images)
    if augmentation.crop:
        reach = augmentation.crop * images.shape[-1] * VIEW / 2
        images = TF.affine(
            images,
            angle=0.0,
            translate=[right * reach, down * reach],
            scale=1 + zoom * augmentation.crop,
            shear=[0.0, 0.0],
            interpolation=TF.InterpolationMode.BILINEAR,
        )
    jitter = augmentation.jitter
    images = TF.adjust_brightness(images, 1 + light * jitter)
    images = TF.adjust_contrast(images, 1 + contrast * jitter)
    images = TF.adjust_saturation(images, 1 + colour * jitter)
    if grey < augmentation.grey:
        images = TF.rgb_to_grayscale(images, num_output_channels=3)
    if blur < augmentation.blur:
        images = TF.gaussian_blur(images, kernel_size=[9, 9], sigma=[0.5 + 1.5 * strength] * 2)
    return images.clamp(0, 1)


def _mixed(seed: int, variant: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{variant}".encode(), digest_size=8).digest()) >> 1


CHUNK = 512  # photos in a file of features: what a killed run does again at most


class Pictures(Dataset):
    """Crops `(3, h, w)`. Row `variant x len + i` is that variant of photo i; the first `len` are the photos."""

    def __init__(self, faces: FaceSet, augmentation: Augmentation) -> None:
        self.faces, self.augmentation = faces, augmentation

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, row: int) -> Tensor:
        variant, photo = divmod(row, len(self))
        face = self.faces[photo]
        return varied(face.images, int(face.seeds), variant, self.augmentation)[0]


def features(
    recognizer: nn.Module,
    faces: FaceSet,
    variants: int,
    augmentation: Augmentation,
    cache: str,
    stages: Stages,
    label: str,
) -> Rows:
    """What enters the recogniser's last block, photo by photo, then variant by variant (rows as in `Pictures`).

    Computed once and kept in memory-mapped files by the recogniser's weights and the photos' contents: 65 kB a photo
    and variant for FaceNet.
    """
    pictures, size = Pictures(faces, augmentation), len(faces)
    trunk, folder = (
        digest([network_of(recognizer), code("veil.training.features")]),
        Path(cache).expanduser() / "features",
    )
    rows = [range(start, min(start + CHUNK, start - start % size + size)) for start in _starts(size, variants + 1)]
    paths = [folder / f"{_address(trunk, pictures, chunk)}.npy" for chunk in rows]
    missing = [(chunk, path) for chunk, path in zip(rows, paths, strict=True) if not used(path)]
    if missing:
        with stages.bar(label, sum(len(chunk) for chunk, _ in missing)) as advance:
            for chunk, path in missing:
                _write(recognizer, pictures, chunk, path)
                advance(len(chunk))
    return Rows(paths)


def _starts(size: int, variants: int) -> list[int]:
    return [variant * size + start for variant in range(variants) for start in range(0, size, CHUNK)]


def _address(trunk: str, pictures: Pictures, rows: range) -> str:
    variant, first = divmod(rows.start, len(pictures))
    chosen = range(first, first + len(rows))
    total = hashlib.blake2b(trunk.encode(), digest_size=16)
    for photo in chosen:
        total.update(pictures.faces.crops[photo].stem.encode())
    if variant:
        drawn = (variant, pictures.augmentation, pictures.faces.seed, [pictures.faces.keys[photo] for photo in chosen])
        total.update(repr(drawn).encode())
    return total.hexdigest()


def _write(recognizer: nn.Module, pictures: Pictures, rows: range, path: Path) -> None:
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    seen = [see(recognizer, [torch.stack([pictures[row] for row in batch])]) for batch in batches]
    with blamed(path.parent), whole(path) as partial:
        np.save(partial, torch.cat([part.features for part in seen]).cpu().numpy())


@torch.no_grad()
def embedded(embedder: nn.Module, rows: Dataset, size: int, device: torch.device) -> Embeddings:
    """Embeddings of the first `size` rows (the photos themselves), on the CPU."""
    embedder = embedder.to(device).eval()
    batches = DataLoader(rows, BATCH, sampler=range(size))
    return torch.cat([embedder(batch.to(device)).float().cpu() for batch in batches])


class TrainedPart(NamedTuple):
    """What is trained, and the rows that it takes of gallery and probes."""

    embedder: nn.Module
    gallery: Dataset
    probes: Dataset

    def embed(self, enrolment: Enrolment, device: torch.device) -> Comparison:
        """Clear embeddings as the part now is."""
        gallery = embedded(self.embedder, self.gallery, len(enrolment.gallery), device)
        return compared(gallery, embedded(self.embedder, self.probes, len(enrolment.probes), device), enrolment)


def trained_part(
    recognizer: nn.Module, recipe: TrunkFitting, enrolment: Enrolment, cache: str, stages: Stages
) -> TrainedPart:
    """The last block on cached features, or the whole recogniser on photos; only what is trained takes gradients."""
    if not isinstance(recognizer, FaceNet):
        raise InputError(
            f"task.mode={recipe.mode} needs recognizer=facenet, which can load the result, got "
            f"{type(recognizer).__name__}; task.mode=classifier takes every recogniser"
        )
    gallery, probes = enrolment.gallery, enrolment.probes
    if recipe.mode == "full":
        recognizer.requires_grad_(True)
        return TrainedPart(recognizer, Pictures(gallery, recipe.augment), Pictures(probes, recipe.augment))
    kept = [
        features(recognizer, faces, variants, recipe.augment, cache, stages, f"features, {name}")
        for name, faces, variants in (("gallery", gallery, recipe.variants), ("probes", probes, 0))
    ]
    return TrainedPart(Unit(last_block(recognizer).requires_grad_(True)), *kept)
