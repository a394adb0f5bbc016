"""Run folders: an address for each config, written whole or not at all, resumed where they stopped."""

import csv
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
from omegaconf import OmegaConf

from veil.config import Config
from veil.errors import InputError
from veil.storage.fingerprint import SPEED, code, digest, places, settings, unlike, versions
from veil.storage.progress import console

Row = dict[str, Any]

# What stage 1 runs: masking and painting, the white box, and the fit of its classifier
STAGE_1 = ("veil.anonymization.module", "veil.recognizers.whitebox", "veil.training.tuning", "veil.training.losses")

# Columns of a manifest that are no figures
TEXTS = ("key", "person", "predicted_clear", "predicted", "original", "mask", "result", "rebuilt")
NUMBERS = ("label", "seed")
BOOLS = ("found", "unchanged")


def set_folder(config: Config, data: str) -> "RunFolder":
    """`outputs/<data>/<masker>/<inpainter>/ratio=0.25/seed=0-<digest>`: what stage 1 makes of these photos.

    Args:
        data: checksum of the split.

    """
    names = config.choices
    knobs = ("ratio", "minimal", "cells", "keep", "image_format")
    groups = ("masker", "inpainter", "recognizer", "surrogates", "head")
    parts = {
        "data": data,
        "inpainter_device": device_kind(config.inpainter.get("device")),
        **{knob: getattr(config, knob) for knob in knobs},
        **_settings(config, *groups),
        **_common(config, *STAGE_1),
    }
    return _addressed(config, Path(names.data, names.masker, names.inpainter, f"ratio={config.ratio:g}"), parts)


def evaluation_folder(config: Config, made: "RunFolder", quarantined: int = 0) -> "RunFolder":
    """`<set>/evaluation-<digest>`: what stage 2 finds in a set.

    Args:
        quarantined: files that are no photos; the count is reported.

    """
    groups = ("recognizer", "surrogates", "judges", "head", "attacks", "controls", "features", "metrics")
    parts = {
        "set": made.path.name,
        "quarantined": quarantined,
        "name": config.choices.recognizer,
        "originals": config.logger["originals"],
        "split": {"attackers": config.split.attackers, "probes": config.split.probes},
        "groups": config.groups,
        "attributes": config.attributes,
        **_settings(config, *groups),
        **_common(config, "veil.tasks.evaluate"),
    }
    place = made.path.relative_to(made.outputs) / f"evaluation-{digest(parts, 4)}"
    return RunFolder(config.outputs, place, made.config, parts)


def foreign_folder(config: Config, data: str, pictures: str) -> "RunFolder":
    """`outputs/<data>/anonymized/<name>/seed=0-<digest>`: pictures that another tool made, cut as crops are.

    Args:
        data: checksum of the split.
        pictures: digest of the photos' keys and of their pictures.

    """
    source = Path(str(config.anonymized)).expanduser().resolve()
    name = source.stem if source.is_file() else source.name
    common = {"seed": config.seed, "code": code("veil.anonymization.foreign"), "packages": versions()}
    contents = asdict(config)
    contents["choices"] |= {"masker": name, "inpainter": "another tool"}
    contents["ratio"] = None  # nobody told
    parts = {"data": data, "pictures": pictures, "as": config.anonymized_as, **common}
    place = Path(config.choices.data, "anonymized", name, f"seed={config.seed}-{digest(parts, 4)}")
    return RunFolder(config.outputs, place, contents, parts)


def head_folder(config: Config, data: str) -> "RunFolder":
    """`outputs/finetune/<data>/<recognizer>/seed=0-<digest>`: the same whichever task asks."""
    groups = _settings(config, "recognizer", "head")
    parts = {"data": data, "name": config.choices.recognizer, **groups, **_common(config, "veil.tasks.head")}
    return _addressed(config, Path("finetune", config.choices.data, config.choices.recognizer), parts)


def trunk_folder(config: Config, data: str, mode: str, loss: str) -> "RunFolder":
    """`outputs/finetune/<data>/<recognizer>/<mode>/<loss>/seed=0-<digest>`."""
    groups = _settings(config, "task", "recognizer", "head", "trainer")
    parts = {"data": data, "name": config.choices.recognizer, **groups, **_common(config, "veil.tasks.finetune")}
    return _addressed(config, Path("finetune", config.choices.data, config.choices.recognizer, mode, loss), parts)


def verification_folder(config: Config, data: str) -> "RunFolder":
    """`outputs/verify/<data>/<recognizer>/seed=0-<digest>`."""
    groups = _settings(config, "task", "recognizer", "judges")
    parts = {"data": data, "name": config.choices.recognizer, **groups, **_common(config, "veil.tasks.verify")}
    return _addressed(config, Path("verify", config.choices.data, config.choices.recognizer), parts)


def split_folder(config: Config) -> "RunFolder":
    """`<cache>/splits/<data>/seed=0-<digest>`: what every task on this data starts from."""
    parts = {
        "data": places(config.data),
        "gallery": config.split.gallery,
        "seed": config.seed,
        "on_error": config.on_error,
        "code": code("veil.tasks.prepare"),
        "packages": versions(),
    }
    place = Path("splits", config.choices.data, f"seed={config.seed}-{digest(parts, 4)}")
    return RunFolder(str(Path(config.cache).expanduser()), place, parts, parts, knob="cache")


def _settings(config: Config, *groups: str) -> dict[str, Any]:
    """The groups as they enter an address; the size of a batch counts where something is trained."""
    training = SPEED - {"batch_size", "compile", "device"}
    return {
        group: settings(getattr(config, group), config.cache, training if group in ("head", "task") else SPEED)
        for group in groups
    }


def _common(config: Config, *stages: str) -> dict[str, Any]:
    """What every stage depends on: its code, precision, kind of device, seed, packages."""
    return {
        "seed": config.seed,
        "device": device_kind(config.trainer["accelerator"]),
        "precision": config.trainer["precision"],
        "code": code(*stages),
        "packages": versions(),
    }


def _addressed(config: Config, place: Path, parts: Mapping[str, Any]) -> "RunFolder":
    return RunFolder(config.outputs, place / f"seed={config.seed}-{digest(parts, 4)}", asdict(config), parts)


def device_kind(asked: str | None) -> str:
    """`cuda`, `cpu` or another kind of device: what is asked for or, where nothing is, the best there is."""
    if asked in (None, "auto", "gpu"):
        others = "mps" if asked and torch.backends.mps.is_available() else "cpu"  # inpainters know no MPS
        return "cuda" if torch.cuda.is_available() else others
    return str(asked).partition(":")[0]


def opened_lock(outputs: Path, name: str, knob: str = "outputs") -> TextIO:
    """A lock file below `outputs`. Raises InputError where it cannot be written."""
    try:
        (outputs / ".locks").mkdir(parents=True, exist_ok=True)
        return (outputs / ".locks" / (name if len(name) < 200 else digest(name))).open("w")
    except OSError as error:
        raise InputError(f"{knob}: {outputs} cannot be written ({error.strerror})") from error


class RunFolder:
    """A folder that appears when its run is complete. Sets and roles grow, and take address, lock and journal from it.

    Until a run is complete its files lie in `<name>.partial`, with one line of `journal.jsonl` for each finished face.

    Args:
        place: below `outputs`.
        config: what `config.yaml` shows.
        parts: what the address is the digest of; kept in `address.json`.

    """

    def __init__(
        self,
        outputs: str,
        place: Path,
        config: Mapping[str, Any],
        parts: Mapping[str, Any] | None = None,
        knob: str = "outputs",
    ) -> None:
        self.outputs, self.path, self.config, self.knob = Path(outputs), Path(outputs, place), config, knob
        self.parts = dict(parts or {})
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self._journal = self.partial / "journal.jsonl"

    @property
    def complete(self) -> bool:
        """Whether the run has ended well."""
        return self.path.is_dir()

    def say_what_changed(self) -> None:
        """Print which parts of the address tell this run from the finished one in its place that is most like it."""
        found = []
        for path in self.path.parent.glob("*/address.json"):
            if not path.parent.name.endswith(".partial"):
                found.append((unlike(self.parts, json.loads(path.read_text())), path.parent.name))
        if found:
            changed, name = min(found, key=lambda pair: len(pair[0]))
            console.print(f"Not done yet: {name} differs in {', '.join(changed[:6])}", soft_wrap=True)

    @contextmanager
    def claimed(self, *, wait: bool = False) -> Iterator[None]:
        """Be the only process that makes this run while inside.

        Raises InputError when the folder cannot be written or, unless `wait`, another process is making the run.
        """
        with opened_lock(self.outputs, "-".join(self.path.relative_to(self.outputs).parts), self.knob) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise InputError(f"{self.knob}: another process is making {self.path}") from error
            yield

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the partial folder; afterwards it becomes the run's folder.

        Raises InputError when the disk is full. What was written is kept for the next try.
        """
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            if self.config:
                (self.partial / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(self.config))))
            if self.parts:
                (self.partial / "address.json").write_text(json.dumps(self.parts, indent=1))
            yield self.partial
            self._journal.unlink(missing_ok=True)
            self.partial.rename(self.path)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise InputError(
                f"{self.knob}: no space left for {self.partial}; what is done is kept: make room and run the same "
                "command again"
            ) from error

    def rows(self) -> list[Row]:
        """The finished faces, in the order they were done; a line cut off by a kill is dropped from the journal."""
        if not self._journal.exists():
            return []
        text = self._journal.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            os.truncate(self._journal, len(whole.encode()))
        return [json.loads(line) for line in whole.splitlines()]

    def add(self, rows: Sequence[Row]) -> None:
        """Note faces whose files are written."""
        with self._journal.open("a") as journal:
            journal.writelines(json.dumps(row) + "\n" for row in rows)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line a row; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_manifest(folder: Path, rows: Sequence[Row]) -> None:
    """Write `manifest.csv`: one line a probe; a value that a face does not have is an empty field."""
    write_csv(rows, folder / "manifest.csv")


def read_manifest(folder: Path) -> list[Row]:
    """What `write_manifest` wrote, with numbers as numbers; None where a face has no value. Empty without the file."""
    path = folder / "manifest.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{column: _read(column, text) for column, text in row.items()} for row in csv.DictReader(file)]


def _read(column: str, text: str) -> Any:
    if column in TEXTS:
        return text or None
    if column in BOOLS:
        return text == "True"
    if not text:
        return None
    return int(text) if column in NUMBERS else float(text)
