"""Scores that are computed once, however many ratios, inpainters and tries they serve."""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from veil.recognizers.whitebox import WhiteBox
from veil.storage.atomic import whole
from veil.storage.cache import used
from veil.storage.faults import blamed
from veil.storage.fingerprint import digest
from veil.storage.networks import network_of
from veil.types import Faces, Scores, pick

WORTH = 0.02  # seconds a face that scores must have taken to be kept: less than that is read no faster


class CachedScores:
    """A masker that remembers what took it longer than `WORTH`: one `.npy` file a face, by photo, person, seed, masker
    and white box.

    Args:
        masker: whose scores are kept.
        settings: everything but the face and the recogniser that they depend on.
        folder: a subfolder for each masker and white box is made here. Safe to delete, and for processes to share.

    """

    def __init__(self, masker: Callable[[Faces, WhiteBox], Scores], settings: Mapping[str, Any], folder: Path) -> None:
        self.masker, self.settings, self.folder = masker, digest(settings, 4), folder
        self._last: tuple[WhiteBox, Path] | None = None

    def __call__(self, faces: Faces, recognizer: WhiteBox) -> Scores:
        """Read what is known, ask the masker for the rest."""
        place = self._place(recognizer)
        paths = [place / f"{name}.npy" for name in map(_name, faces.images.cpu(), faces.identities, faces.seeds)]
        missing = [index for index, path in enumerate(paths) if not used(path)]
        made = dict(zip(missing, self._made(faces, missing, paths, recognizer), strict=True)) if missing else {}
        every = [made[index] if index in made else torch.from_numpy(np.load(path)) for index, path in enumerate(paths)]
        return torch.stack(torch.broadcast_tensors(*every)).to(faces.images)  # of a face that is not found, one number

    def _made(self, faces: Faces, missing: list[int], paths: list[Path], recognizer: WhiteBox) -> Scores:
        """The scores of the faces that are missing, on the CPU; kept where that saves time."""
        start = time.perf_counter()
        scores = self.masker(pick(faces, missing), recognizer).cpu()
        if time.perf_counter() - start >= WORTH * len(missing):
            for index, values in zip(missing, scores.numpy(), strict=True):
                with blamed(self.folder), whole(paths[index]) as partial:
                    np.save(partial, values)
        return scores

    def _place(self, recognizer: WhiteBox) -> Path:
        """The white box is frozen: its digest, of 100 MB, is taken once."""
        if self._last is None or self._last[0] is not recognizer:
            self._last = recognizer, self.folder / f"{self.settings}-{network_of(recognizer)}"
        return self._last[1]


def _name(image: torch.Tensor, identity: torch.Tensor, seed: torch.Tensor) -> str:
    content = hashlib.blake2b(image.contiguous().numpy().data, digest_size=16)
    content.update(f"{int(identity)} {int(seed)}".encode())
    return content.hexdigest()
