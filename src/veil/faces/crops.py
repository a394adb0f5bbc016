"""Aligned crops, made once and kept by what the photo's file holds."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facenet_pytorch import MTCNN
from PIL import Image

from veil.errors import InputError
from veil.faces.align import Pixels, crop_face, every_face, face_detector, plausible
from veil.faces.decode import Photo, Unreadable, decode, image_format, read_photo
from veil.storage.atomic import whole
from veil.storage.cache import used
from veil.storage.faults import blamed
from veil.storage.fingerprint import code, digest, versions
from veil.storage.locks import locked
from veil.storage.progress import Stages


class Crops(NamedTuple):
    """What alignment found."""

    paths: list[Path | None]  # of each photo's crop; None where there is no face, or no photo
    by_box: list[str]  # keys of photos whose landmarks cannot be right: their crops follow the detector's box
    unreadable: dict[str, str]  # key -> why it is no photo
    formats: set[str]  # of the files: JPEG, PNG ...
    others: dict[str, list[Path]]  # key -> crops of further faces of the photo that may be meant


def align(photos: Sequence[Photo], cache: Path, stages: Stages, on_error: str = "raise") -> Crops:
    """The crop of each photo. One photo is in memory at a time, so that its crop depends on no other, and one is lost
    by a kill.

    Raises InputError for a photo that cannot be read, unless `on_error` is `skip`.
    """
    aligner = Aligner(cache, stages)
    crops = Crops([], [], {}, aligner.formats, {})
    with stages.bar("photos", len(photos), "photos") as advance:
        for photo in photos:
            try:
                path = aligner(photo)
            except Unreadable as error:
                if on_error == "raise":
                    reason = f"data: photo {photo.key!r} cannot be read ({error})"
                    raise InputError(f"{reason}; repair or remove it, or set on_error=skip") from error
                path = None
                crops.unreadable[photo.key] = str(error)
            crops.paths.append(path)
            if path is not None and path.with_suffix(".box").exists():
                crops.by_box.append(photo.key)
            if path is not None and path.with_suffix(".others").exists():
                names = path.with_suffix(".others").read_text().split()
                crops.others[photo.key] = [cache / name[:2] / f"{name}.png" for name in names]
            advance(1)
    return crops


class Aligner:
    """Makes crops. Processes with one cache take turns, photo by photo, and share what they make."""

    def __init__(self, cache: Path, stages: Stages) -> None:
        self.cache, self.stages = cache, stages
        self.formats: set[str] = set()

    @functools.cached_property
    def detector(self) -> MTCNN:
        """Loaded when the first crop is to be made."""
        return face_detector()

    def __call__(self, photo: Photo) -> Path | None:
        """The crop of a photo, made if nobody has made it yet; `None` where MTCNN finds no face. Raises Unreadable."""
        content = read_photo(photo.read)
        self.formats.add(image_format(content))
        path = crop_path(self.cache, content)
        if not used(path) and not done(path):
            pixels = decode(content)
            with self.stages.clock("align"), locked(self.cache / ".lock"):
                if not done(path):
                    self._make(content, pixels, path)
        return path if path.exists() else None

    def _make(self, content: bytes, pixels: Pixels, path: Path) -> None:
        """The main face's crop last: it says that the photo was looked at."""
        (faces,) = every_face([pixels], self.detector)
        paths = [path, *(crop_path(self.cache, content, face) for face in range(1, len(faces)))]
        with blamed(self.cache):
            path.parent.mkdir(exist_ok=True)
            if not faces:
                path.with_suffix(".none").touch()
            if faces and not plausible(faces[0]):
                path.with_suffix(".box").touch()
            if len(faces) > 1:
                path.with_suffix(".others").write_text("\n".join(other.stem for other in paths[1:]))
            for face, place in reversed(list(zip(faces, paths, strict=False))):  # where there is no face, no crop
                with whole(place) as partial:
                    Image.fromarray(crop_face(pixels, face)).save(partial)


def crop_path(cache: Path, content: bytes, face: int = 0) -> Path:
    """Where the crop of a photo file lies, now or later; `face` is its number in `every_face`, 0 the main one's."""
    name = hashlib.blake2b(content, digest_size=16, person=alignment(), salt=bytes([face])).hexdigest()
    return cache / name[:2] / f"{name}.png"


@functools.cache
def alignment() -> bytes:
    """The way in which crops are made, in 16 bytes: crops made another way are not found again."""
    way = [code("veil.faces.align", "veil.faces.decode"), versions()["facenet-pytorch"]]
    return digest(way, size=8).encode()


def done(path: Path) -> bool:
    """Whether the photo of this crop was looked at: `.none` stands for a crop where MTCNN finds no face."""
    return path.exists() or path.with_suffix(".none").exists()
