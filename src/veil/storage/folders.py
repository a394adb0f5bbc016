"""Run folders, written whole or not at all, resumed where they stopped; their addresses: `storage.addresses`."""

import csv
import errno
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from veil.errors import InputError
from veil.storage.fingerprint import digest, unlike
from veil.storage.locks import locked
from veil.storage.progress import console

Row = dict[str, Any]
ASKED = "sweep.json"  # what a sweep was asked, and what it is called: the same sweep again is the same group

# Columns of a manifest that are no figures
TEXTS = ("key", "person", "predicted_clear", "predicted", "original", "mask", "result", "rebuilt")
NUMBERS = ("label", "seed")
BOOLS = ("found", "unchanged")


def lock_file(outputs: Path, name: str) -> Path:
    """A file below `outputs` to be locked."""
    return outputs / ".locks" / (name if len(name) < 200 else digest(name))


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

    def discard(self) -> None:
        """Remove the finished run: at once for those who look, whatever kills this process."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.path.rename(self.partial)
        shutil.rmtree(self.partial)

    def finished_beside(self) -> list[tuple[Path, dict[str, Any]]]:
        """The finished runs in the same place, each with what its address is the digest of."""
        addresses = sorted(self.path.parent.glob("*/address.json"))
        whole = [path for path in addresses if not path.parent.name.endswith(".partial")]
        return [(path.parent, json.loads(path.read_text())) for path in whole]

    def say_what_changed(self) -> None:
        """Print which parts of the address tell this run from the finished one in its place that is most like it."""
        found = [(unlike(self.parts, parts), path.name) for path, parts in self.finished_beside()]
        if found:
            changed, name = min(found, key=lambda pair: len(pair[0]))
            console.print(f"Not done yet: {name} differs in {', '.join(changed[:6])}", soft_wrap=True)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the only process that makes this run while inside; wait, and say so, while another one is.

        Raises InputError when the folder cannot be written, or the disk is full; what was written is kept.
        """

        def say(owner: str) -> None:
            console.print(f"Waiting: {owner} is making {self.path}", soft_wrap=True)

        path = lock_file(self.outputs, "-".join(self.path.relative_to(self.outputs).parts))
        with locked(path, say, self.knob), self._roomy():
            yield

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the partial folder; afterwards it becomes the run's folder.

        Raises InputError when the disk is full. What was written is kept for the next try.
        """
        with self._roomy():
            self.partial.mkdir(parents=True, exist_ok=True)
            if self.config:
                (self.partial / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(self.config))))
            if self.parts:
                (self.partial / "address.json").write_text(json.dumps(self.parts, indent=1))
            yield self.partial
            self._journal.unlink(missing_ok=True)
            self.partial.rename(self.path)

    @contextmanager
    def _roomy(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"{self.knob}: no space left for {error.filename or self.partial}; what is done is kept: make room and "
                "run the same command again"
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


def read_columns(folder: Path, names: Collection[str]) -> dict[str, list[Any]]:
    """Those of these columns that the manifest has, as `read_manifest` reads them; the fewer, the faster."""
    path = folder / "manifest.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    places = {name: place for place, name in enumerate(header) if name in names}
    found: dict[str, list[Any]] = {}
    for name, place in places.items():
        plain = name not in (*TEXTS, *BOOLS, *NUMBERS)  # most are: without a call for each value
        texts = [row[place] for row in rows]
        found[name] = [float(text) if text else None for text in texts] if plain else [_read(name, t) for t in texts]
    return found


def _read(column: str, text: str) -> Any:
    if column in TEXTS:
        return text or None
    if column in BOOLS:
        return text == "True"
    if not text:
        return None
    return int(text) if column in NUMBERS else float(text)
