"""A split on disk: which photo is whose, in which role, and where its crop is; runs start from it."""

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray

from veil.data.faces import Enrolment, FaceSet
from veil.data.header import Columns, Header, Stamps, packed, read_columns, read_header, unpacked
from veil.data.inventory import read_inventory
from veil.errors import InputError


def write_split(folder: Path, enrolment: Enrolment, sources: Stamps) -> None:
    """Write `split.npz` (the columns), `split.json` (checksum, counts, formats, sources ...), `inventory.json` and
    `quarantine.csv`.
    """
    columns = to_columns(enrolment)
    np.savez_compressed(folder / "split.npz", **columns)  # type: ignore[arg-type]
    header = Header(columns_digest(columns), counts(enrolment), sources, enrolment.formats, enrolment.unlabelled)
    header.write(folder)
    enrolment.inventory.write(folder)
    with (folder / "quarantine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("key", "reason"))
        writer.writerows(enrolment.unreadable.items())


def read_split(folder: Path, cache: Path, seed: int) -> Enrolment:
    """What `write_split` wrote; `cache` holds the crops. Raises InputError where the checksum does not fit."""
    header = read_header(folder)
    columns = read_columns(folder)
    if columns_digest(columns) != header.checksum:
        raise InputError(f"cache: {folder / 'split.npz'} does not have the checksum in split.json; remove {folder}")
    with (folder / "quarantine.csv").open(newline="") as file:
        unreadable = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    gallery, probes = (_faces(columns, part, cache / "crops", seed) for part in ("gallery", "probes"))
    people, not_found, by_box = (unpacked(columns[name]) for name in ("people", "not_found", "by_box"))
    said = header.formats, header.unlabelled, read_inventory(folder)
    return Enrolment(people, gallery, probes, not_found, by_box, unreadable, *said)


def checksum(enrolment: Enrolment) -> str:
    """Of everything that a split says: equal where people, photos, roles, labels and contents are."""
    return columns_digest(to_columns(enrolment))


def counts(enrolment: Enrolment) -> dict[str, int]:
    """What a split has of everything; people with one photo are only enrolled."""
    photos = np.bincount([*enrolment.gallery.identities, *enrolment.probes.identities])
    return {
        "people": len(enrolment.people),
        "single_photo": int((photos == 1).sum()),
        "gallery": len(enrolment.gallery),
        "probes": len(enrolment.probes),
        "not_found": len(enrolment.not_found),
        "aligned_by_box": len(enrolment.by_box),
        "quarantined": len(enrolment.unreadable),
    }


def to_columns(enrolment: Enrolment) -> Columns:
    """Arrays that say the same."""
    columns = {name: packed(getattr(enrolment, name)) for name in ("people", "not_found", "by_box")}
    for part, faces in (("gallery", enrolment.gallery), ("probes", enrolment.probes)):
        addresses = bytes.fromhex("".join(crop.stem for crop in faces.crops))
        columns |= {
            f"{part}/key": packed(faces.keys),
            f"{part}/person": np.array(faces.identities, np.int32),
            f"{part}/number": np.array(faces.numbers, np.int32),
            f"{part}/crop": np.frombuffer(addresses, np.uint8).reshape(len(faces), -1),
            **{f"{part}/label/{name}": values for name, values in faces.labels.items()},
        }
    return columns


def columns_digest(columns: Mapping[str, ndarray]) -> str:
    """32 hexadecimal digits of names, types and values."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(columns):
        total.update(f"{name} {columns[name].dtype.str} {columns[name].shape} ".encode())
        total.update(np.ascontiguousarray(columns[name]).tobytes())
    return total.hexdigest()


def _faces(columns: Columns, part: str, crops: Path, seed: int) -> FaceSet:
    addresses = columns[f"{part}/crop"]
    digits, width = addresses.tobytes().hex(), 2 * addresses.shape[1]
    names = [digits[start : start + width] for start in range(0, len(digits), width)]
    labels = {name.split("/", 2)[2]: values for name, values in columns.items() if name.startswith(f"{part}/label/")}
    return FaceSet(
        [crops / f"{name[:2]}/{name}.png" for name in names],
        unpacked(columns[f"{part}/key"]),
        columns[f"{part}/person"].tolist(),
        columns[f"{part}/number"].tolist(),
        seed,
        labels,
    )
