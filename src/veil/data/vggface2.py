"""VGGFace2: 3.3 million photos of 9,131 people (Cao et al. 2018, arXiv:1710.08092)."""

from pathlib import Path

import numpy as np

from veil.data.listing import listing, merged
from veil.data.photos import SUFFIXES, Photos, read_file, with_min_photos
from veil.errors import InputError
from veil.storage.text import table_of

PARTS = ("train", "test")  # by person


def vggface2(root: str, part: str | None = None, min_photos: int = 2) -> Photos:
    """The photos of `<root>/<part>/n000001/0001_01.jpg`; keys are `n000001/0001_01`.

    Where `identity_meta.csv` lies in `root`, its gender is the label `gender`: `m` or `f`.

    Args:
        root: the folder that holds `train/`, `test/` or both.
        part: one of them; null is whatever is there. The official parts share no person.
        min_photos: leave out people with fewer.

    Raises InputError where nothing is there.

    """
    folder = Path(root).expanduser()
    if part is not None and part not in PARTS:
        raise InputError(f"data.part must be null or one of {PARTS}, got {part!r}")
    parts = [folder / name for name in PARTS if part in (None, name) and (folder / name).is_dir()]
    found = {place.name: listing(place, SUFFIXES) for place in parts}
    names = sorted((name, place) for place, listed in found.items() for name in listed.names)
    if not names:
        wanted = part or " or ".join(PARTS)
        raise InputError(f"data.root={root!r} holds no photo of VGGFace2: expected {wanted}/n000001/0001_01.jpg")
    people = [name.partition("/")[0] for name, _ in names]
    keys = [name.rpartition(".")[0] for name, _ in names]
    meta = folder / "identity_meta.csv"
    labels = {"gender": _genders(meta, people)} if meta.exists() else {}
    sources = [*(place for listed in found.values() for place in listed.folders), *([meta] if labels else [])]

    def read(number: int) -> bytes:
        name, place = names[number]
        return read_file(folder / place / name)

    ignored = merged({place: listed.ignored for place, listed in found.items()})
    return with_min_photos(Photos(keys, people, read, labels, sources=sources, ignored=ignored), min_photos)


def _genders(path: Path, people: list[str]) -> np.ndarray:
    """The columns Class_ID and Gender; fields are separated by a comma and a space."""
    table = table_of(path.read_bytes(), f"data.root: {path}", ("Class_ID", "Gender"))
    gender = {row["Class_ID"]: row["Gender"] for row in table.rows}
    try:
        return np.array([gender[person] for person in people])
    except KeyError as error:
        raise InputError(f"data.root: {path} must give the Class_ID and Gender of everybody, lacks {error}") from error
