"""From photos to the squares that the face inpainter is trained on."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from veil.config import Config
from veil.data.header import stamps
from veil.data.photos import Photos
from veil.errors import InputError
from veil.faces.crops import align
from veil.faces.decode import Unreadable, decode, read_photo
from veil.storage.progress import Stages, console
from veil.training.data import Pixels, write_fields
from veil.training.jitter import ROOM
from veil.types import FIELD


def cut_fields(config: Config, photos: Photos, aligned: bool | Sequence[str] | None, path: Path, size: int) -> None:
    """Keep the field of each face, with room for jitter, in `path`; see `write_fields`.

    Args:
        aligned: which photos are squares whose middle 0.8 is the field: all of them, none, or those of some roots.

    Raises InputError where a photo that is said to be aligned is no square, or where no photo has a face.

    """
    root = config.data.get("root")
    if isinstance(aligned, Sequence) and (root is None or isinstance(root, str)):
        raise InputError(f"task.aligned={list(aligned)} names roots of data.root, which must be a list, got {root!r}")
    stages = Stages()
    ready = _is_aligned(photos, aligned)
    squares, others = photos.select(np.flatnonzero(ready)), photos.select(np.flatnonzero(~ready))
    crops: list[Path] = []
    if len(others):
        found = align(others, Path(config.cache).expanduser() / "crops", stages, config.on_error)
        crops = [crop for crop in found.paths if crop is not None]
        console.print(f"MTCNN finds a face in {len(crops)} of {len(others)} photos")
    if not len(squares) and not crops:
        raise InputError("data: no photo has a face that MTCNN finds; task.aligned=true takes photos as they are")
    with stages.bar("fields", len(crops) + len(squares), "faces") as advance:
        write_fields(_each(crops, squares, config.on_error, advance), len(crops) + len(squares), path, size)


def identity(photos: Photos, begun: Mapping[str, str]) -> dict[str, str]:
    """`photos`, the digest of their keys, people and bytes, and `stamps`, of what the file system says of them; where
    this is what it was, nothing is read.

    Args:
        begun: what this gave before, or nothing.

    """
    now = hashlib.blake2b(json.dumps(stamps(photos.sources)).encode(), digest_size=16).hexdigest()
    if now in (begun.get("stamps"), begun.get("photos")):  # the second: begun by an earlier version
        return {"photos": begun["photos"], "stamps": now}
    total = hashlib.blake2b(digest_size=16)
    for photo in photos:
        content = hashlib.blake2b(photo.read()).hexdigest()
        total.update("\0".join((photo.key, photo.person, content, "")).encode())
    return {"photos": total.hexdigest(), "stamps": now}


def _is_aligned(photos: Photos, aligned: bool | Sequence[str] | None) -> np.ndarray:
    if not aligned or aligned is True:
        return np.full(len(photos), bool(aligned))
    roots = np.array([key.split("/")[0] for key in photos.keys])
    unknown = set(aligned) - set(roots)
    if unknown:
        raise InputError(
            f"task.aligned must be true, null or names of roots of data.root, without suffix, among "
            f"{sorted(set(roots))[:5]}, got {sorted(unknown)}"
        )
    return np.isin(roots, list(aligned))


def _each(crops: Sequence[Path], squares: Photos, on_error: str, advance: Callable[[int], None]) -> Iterator[Pixels]:
    for crop in crops:
        pixels = decode(crop.read_bytes())
        edge = round(len(pixels) * (1 - FIELD * ROOM) / 2)
        yield pixels[edge:-edge, edge:-edge]
        advance(1)
    for photo in squares:
        try:
            pixels = decode(read_photo(photo.read))
        except Unreadable as error:
            if on_error == "raise":
                raise InputError(f"data: photo {photo.key!r} cannot be read ({error}); or on_error=skip") from error
            continue
        height, width, _ = pixels.shape
        if height != width:
            raise InputError(f"task.aligned takes square photos, and {photo.key!r} is {width} x {height} px")
        yield pixels
        advance(1)
