"""Run folders: an address for each config, written whole or not at all, resumed where they stopped."""

import csv
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from veil.config import Config, InputError
from veil.data.align import ALIGNMENT

# What changes where, how fast or how loudly a run goes, never what it finds; but for the trainer's precision.
INDIFFERENT = ("outputs", "cache", "cache_scores", "batch_size", "workers", "trainer", "logger")

SPLIT_FORMAT = 3  # of split files: one of another format is not found, and made again

Row = dict[str, Any]


def digest(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of everything in `config` that can change a result, of Veil's version and its crops."""
    kept = {key: value for key, value in config.items() if key not in INDIFFERENT}
    kept["precision"] = config.get("trainer", {}).get("precision")
    text = json.dumps({"veil": version("veil"), "alignment": ALIGNMENT.decode(), **_canonical(kept)}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _canonical(node: Any) -> Any:
    """Without caches; 3 and 3.0 alike."""
    if isinstance(node, dict):
        return {key: _canonical(value) for key, value in node.items() if key != "cache"}
    if isinstance(node, list):
        return [_canonical(value) for value in node]
    return float(node) if isinstance(node, int) and not isinstance(node, bool) else node


def evaluation_folder(config: Config) -> "RunFolder":
    """`outputs/<task>/<data>/<masker>/<inpainter>/ratio=0.25/seed=0-<digest>`."""
    names = config.choices
    place = Path(names.task, names.data, names.masker, names.inpainter, f"ratio={config.ratio:g}")
    contents = asdict(config)
    return RunFolder(config.outputs, place / f"seed={config.seed}-{digest(contents)}", contents)


def head_folder(config: Config) -> "RunFolder":
    """`outputs/finetune/<data>/<recognizer>/seed=0-<digest>`: the same whichever task asks."""
    parts = ("data", "recognizer", "head", "split", "on_error", "seed")
    contents = {name: value for name, value in asdict(config).items() if name in parts}
    place = Path("finetune", config.choices.data, config.choices.recognizer)
    return RunFolder(config.outputs, place / f"seed={config.seed}-{digest(contents)}", contents)


def verification_folder(config: Config) -> "RunFolder":
    """`outputs/verify/<data>/<recognizer>/seed=0-<digest>`."""
    parts = ("task", "data", "recognizer", "judges", "split", "on_error", "seed")
    contents = {name: value for name, value in asdict(config).items() if name in parts}
    place = Path("verify", config.choices.data, config.choices.recognizer)
    return RunFolder(config.outputs, place / f"seed={config.seed}-{digest(contents)}", contents)


def split_folder(config: Config) -> "RunFolder":
    """`<cache>/splits/<data>/seed=0-<digest>`: what every task on this data starts from."""
    contents = {
        "data": config.data,
        "split": {"gallery": config.split.gallery},
        "seed": config.seed,
        "on_error": config.on_error,
        "format": SPLIT_FORMAT,
    }
    place = Path("splits", config.choices.data, f"seed={config.seed}-{digest(contents)}")
    return RunFolder(str(Path(config.cache).expanduser()), place, contents, knob="cache")


def trunk_folder(config: Config, mode: str, loss: str) -> "RunFolder":
    """`outputs/finetune/<data>/<recognizer>/<mode>/<loss>/seed=0-<digest>`."""
    parts = ("task", "data", "recognizer", "head", "split", "seed", "trainer")
    contents = {name: value for name, value in asdict(config).items() if name in parts}
    place = Path("finetune", config.choices.data, config.choices.recognizer, mode, loss)
    return RunFolder(config.outputs, place / f"seed={config.seed}-{digest(contents)}", contents)


class RunFolder:
    """A folder that appears when its run is complete.

    Until then its files lie in `<name>.partial`, with one line of `journal.jsonl` for each finished face.
    """

    def __init__(self, outputs: str, place: Path, config: Mapping[str, Any], knob: str = "outputs") -> None:
        self.outputs, self.path, self.config, self.knob = Path(outputs), Path(outputs, place), config, knob
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self._journal = self.partial / "journal.jsonl"

    @property
    def complete(self) -> bool:
        """Whether the run has ended well."""
        return self.path.is_dir()

    @contextmanager
    def claimed(self, *, wait: bool = False) -> Iterator[None]:
        """Be the only process that makes this run while inside.

        Raises InputError when the folder cannot be written or, unless `wait`, another process is making the run.
        """
        locks = self.outputs / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            name = "-".join(self.path.relative_to(self.outputs).parts)
            lock = (locks / name).open("w")
        except OSError as error:
            raise InputError(f"{self.knob}: {self.outputs} cannot be written ({error.strerror})") from error
        with lock:
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
            (self.partial / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(self.config))))
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
