"""Read what W&B keeps of an offline run: records in LevelDB's log format, after a header of 7 bytes."""

import json
import struct
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path: Path) -> list[Record]:
    """Every record of a `.wandb` file."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    records, parts, place = [], b"", 7
    while place + 7 <= len(content):
        room = BLOCK - place % BLOCK
        if room < 7:  # a header does not fit in what is left of the block
            place += room
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        if kind == 0:  # padding
            place += room
            continue
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (FULL, LAST):
            records.append(Record.FromString(parts))
            parts = b""
    return records


def finished_records(path: Path, seconds: float = 10) -> list[Record]:
    """The records of a finished run; its service may write the last of them a moment after `finish`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        records = read_records(path)
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)
    raise AssertionError(f"{path} does not end")


def values(items: Any) -> dict[str, Any]:
    """Protobuf's pairs of key (or nested keys) and JSON, as a flat dict."""
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


class OfflineRun:
    """What was logged: `steps` and `history` (the same, by name), `config`, `summary`, `files`, `exit_code`, `run`."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("*.wandb")
        self.folder, self.records = folder, finished_records(path)
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: dict[str, list[Any]] = defaultdict(list)
        self.steps: list[dict[str, Any]] = []
        self.files: list[str] = []
        self.exit_code: int | None = None
        for record in self.records:
            match record.WhichOneof("record_type"):
                case "run":
                    self.run = record.run
                    self.config |= values(record.run.config.update)
                case "config":
                    self.config |= values(record.config.update)
                case "summary":
                    self.summary |= values(record.summary.update)
                case "history":
                    self.steps.append(values(record.history.item))
                    for name, value in self.steps[-1].items():
                        self.history[name].append(value)
                case "files":
                    self.files += [file.path for file in record.files.files]
                case "exit":
                    self.exit_code = record.exit.exit_code

    def artifact(self, name: str) -> dict[str, Path]:
        """The files of an artifact that was logged, by their path in it."""
        found = [record.artifact for record in self.records if record.artifact.name == name]
        return {entry.path: Path(entry.local_path) for entry in found[-1].manifest.contents}

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of the last table of this name; a picture is the path of its file."""
        files = self.artifact(f"run-{self.run.run_id}-{name}")
        told = json.loads(files[f"{name}.table.json"].read_text())
        rows = [[files[cell["path"]] if isinstance(cell, dict) else cell for cell in row] for row in told["data"]]
        return [dict(zip(told["columns"], row, strict=True)) for row in rows]


def offline_runs(outputs: Path) -> list[OfflineRun]:
    """The offline runs below a folder, oldest first."""
    return [OfflineRun(folder) for folder in sorted(outputs.glob("wandb/offline-run-*"))]
