"""Photos as training takes them: their pixels, or what a recogniser's frozen part makes of them, kept on disk."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from veil.attacks.adapt import see
from veil.data.faces import FaceSet
from veil.recognizers.embed import BATCH
from veil.storage.atomic import whole
from veil.storage.fingerprint import code, digest
from veil.storage.networks import network_of
from veil.storage.progress import Stages
from veil.training.augment import varied
from veil.training.data import Rows
from veil.training.recipe import Augmentation
from veil.types import Embeddings

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
    missing = [(chunk, path) for chunk, path in zip(rows, paths, strict=True) if not path.exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
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
    device = next(recognizer.parameters()).device
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    seen = [see(recognizer, torch.stack([pictures[row] for row in batch]).to(device)) for batch in batches]
    with whole(path) as partial:
        np.save(partial, torch.cat([part.features for part in seen]).cpu().numpy())


@torch.no_grad()
def embedded(embedder: nn.Module, rows: Dataset, size: int, device: torch.device) -> Embeddings:
    """Embeddings of the first `size` rows (the photos themselves), on the CPU."""
    embedder = embedder.to(device).eval()
    batches = DataLoader(rows, BATCH, sampler=range(size))
    return torch.cat([embedder(batch.to(device)).float().cpu() for batch in batches])
