"""A masker's scores, looked at before anything is made or kept of them: it may be anybody's code."""

import functools

import torch

from veil.errors import InputError
from veil.maskers.control import Masker
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Scores


def checked(masker: Masker, name: str) -> Masker:
    """The same masker, which raises InputError that names it where it gives anything but finite numbers, one map a
    face.
    """

    @functools.wraps(masker)
    def scores(faces: Faces, recognizer: WhiteBox) -> Scores:
        found = masker(faces, recognizer)
        wrong = _wrong(found, faces)
        if wrong:
            asked = f"a float tensor of shape ({len(faces.keys)}, rows, columns), a map for each face, all finite"
            raise InputError(f"{name} must give {asked}; got {wrong}")
        return found

    return scores


def _wrong(found: object, faces: Faces) -> str:
    """What is wrong with scores; "" where nothing is."""
    if not isinstance(found, torch.Tensor):
        return type(found).__name__
    if not found.is_floating_point():
        return str(found.dtype)
    if found.ndim != 3 or len(found) != len(faces.keys) or not found.numel():
        return f"shape {tuple(found.shape)}"
    broken = (~found.isfinite()).flatten(1).any(dim=1).tolist()
    keys = [key for key, bad in zip(faces.keys, broken, strict=True) if bad]
    return f"NaN or infinity for {len(keys)} of {len(faces.keys)} faces ({keys[0]} first)" if keys else ""
