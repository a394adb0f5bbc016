"""The folder between the stages: anonymised pictures by role, and what was done to each."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from veil.data.faces import FaceSet
from veil.faces.pictures import mask_pixels, save, to_pixels
from veil.storage.atomic import whole
from veil.storage.folders import Row, RunFolder, read_manifest, write_csv
from veil.types import Faces, Images, Masks

PROBES, GALLERY, ATTACKERS = "probes", "gallery", "attackers"  # roles
KINDS = ("results", "masks", "original")


class AnonymizedSet:
    """Roles in subfolders, each with `results/`, `masks/`, `original/` and a `manifest.csv`; it grows by photos.

    A role holds no photo by halves: its manifest lists what is there, and is written last.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run, self.path = run, run.path

    def begin(self) -> None:
        """Make the folder, with the resolved config and the address beside it."""
        if not (self.path / "config.yaml").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "address.json").write_text(json.dumps(self.run.parts, indent=1))
            with whole(self.path / "config.yaml") as partial:
                partial.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(self.run.config))))

    def role(self, name: str) -> "Role":
        """One of the roles, there already or not."""
        place = self.path.relative_to(self.run.outputs) / name
        return Role(RunFolder(str(self.run.outputs), place, {}, knob=self.run.knob))

    def rows(self) -> dict[str, Row]:
        """By key, what was done to each photo, whatever its role; files are named from the set's folder."""
        found: dict[str, Row] = {}
        for name in (ATTACKERS, GALLERY, PROBES):
            for row in self.role(name).rows():
                files = {kind: f"{name}/{row[kind]}" for kind in ("original", "mask", "result") if row[kind]}
                found[row["key"]] = row | files
        return found

    @property
    def notes(self) -> dict[str, Any]:
        """What was noticed while it was made."""
        path = self.path / "notes.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def note(self, notes: Mapping[str, Any]) -> None:
        """Keep notes beside those that are there."""
        with whole(self.path / "notes.json") as partial:
            partial.write_text(json.dumps(self.notes | dict(notes), indent=1))


class Role:
    """The photos of one role."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.path = run, run.path

    def rows(self) -> list[Row]:
        """What the manifest lists."""
        return read_manifest(self.path)

    def missing(self, faces: FaceSet, known: Iterable[str] = ()) -> FaceSet:
        """Those of `faces` that are neither here, nor among `known`, nor done by a try that was killed."""
        there = {*known, *(row["key"] for row in self.rows()), *(row["key"] for row in self.run.rows())}
        return faces.select(index for index, key in enumerate(faces.keys) if key not in there)

    def finish(self) -> bool:
        """Take in what was written since, files first, then the manifest; give whether there was any."""
        known = {row["key"] for row in self.rows()}
        done = [row for row in self.run.rows() if row["key"] not in known]
        for row in done:
            for file in filter(None, (row["original"], row["mask"], row["result"])):
                (self.path / file).parent.mkdir(parents=True, exist_ok=True)
                if (self.run.partial / file).exists():  # else a killed try has moved it
                    (self.run.partial / file).replace(self.path / file)
        if done:
            with whole(self.path / "manifest.csv") as partial:
                # by key: which of several devices was first is no part of a set
                write_csv(sorted([*self.rows(), *done], key=lambda row: row["key"]), partial)
        shutil.rmtree(self.run.partial, ignore_errors=True)
        return bool(done)


class Writer:
    """Keeps each face's files, then its row, so that a killed run loses no face and does none twice.

    Names as in the 2022 study: `{image-id}-generated-label-{class-id}.png`, and `-masks-`, `-img-`.

    Args:
        note: takes the rows of faces whose files are written; None notes them in the role's journal.

    """

    def __init__(
        self,
        role: Role,
        faces: FaceSet,
        people: Sequence[str],
        image_format: str,
        note: Callable[[list[Row]], None] | None = None,
    ) -> None:
        self.role, self.people, self.image_format = role, people, image_format
        self.note = note or role.run.add
        self.numbers = dict(zip(faces.keys, faces.numbers, strict=True))
        for kind in KINDS:
            (role.run.partial / kind).mkdir(parents=True, exist_ok=True)

    def __call__(self, faces: Faces, masks: Masks, results: Images, rows: list[Row]) -> None:
        """Write a batch."""
        folder = self.role.run.partial
        pictures = zip(to_pixels(faces.images), mask_pixels(masks), to_pixels(results), strict=True)
        done = []
        for index, (row, (original, mask, result)) in enumerate(zip(rows, pictures, strict=True)):
            label = int(faces.identities[index])
            who = {"key": faces.keys[index], "person": self.people[label], "label": label}
            files = file_names(self.numbers[faces.keys[index]], label, self.image_format)
            save(original, folder / files["original"])
            save(mask, folder / files["mask"])
            save(result, folder / files["result"])
            done.append(who | {"seed": int(faces.seeds[index])} | row | files)
        self.note(done)


def file_names(number: int, label: int, image_format: str) -> dict[str, str]:
    """Where a face's pictures go in its role; masks are always lossless."""
    return {
        "original": f"original/{number}-img-label-{label}.{image_format}",
        "mask": f"masks/{number}-masks-label-{label}.png",
        "result": f"results/{number}-generated-label-{label}.{image_format}",
    }
