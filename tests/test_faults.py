"""A cache that cannot be used is one clear error that names the knob."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import TinyRecognizer, compose_config

from veil.config import Config
from veil.data.faces import enrol
from veil.data.folder import folder
from veil.errors import InputError
from veil.faces import crops as crops_module
from veil.recognizers import weights as weights_module
from veil.recognizers.embed import Embedder, VectorStore
from veil.storage import fingerprint
from veil.storage.faults import blamed
from veil.storage.folders import RunFolder
from veil.storage.progress import Stages
from veil.tasks.prepare import prepare

Configure = Callable[..., Config]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def full(path: Path) -> Iterator[Path]:
    raise FULL
    yield path


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_strews_nothing(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VEIL_CACHE", value)
    with pytest.raises(InputError, match=r"cache must be a folder, got '.?': the variable VEIL_CACHE is empty"):
        compose_config()
    monkeypatch.delenv("VEIL_CACHE")
    with pytest.raises(InputError, match=r"outputs must be a folder, got ''$"):
        compose_config("outputs=''")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_fault_of_the_place_names_the_knob_and_others_stay(tmp_path: Path, number: int) -> None:
    reason = os.strerror(number)
    with (
        pytest.raises(InputError, match=rf"cache: {tmp_path} cannot be written \({reason}\); .*cache= .*VEIL_CACHE"),
        blamed(tmp_path),
    ):
        raise OSError(number, reason)
    with pytest.raises(OSError, match="Input/output error"), blamed(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_full_cache_is_told_wherever_it_is_written(
    photos: Path, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = r"cache: .* cannot be written \(.*[Nn]o space left.*|.*database or disk is full.*\)"
    faces = enrol(folder(str(photos)), 0.6, 0, cache, Stages()).gallery.select([0, 1])
    monkeypatch.setattr(crops_module, "whole", full)
    with pytest.raises(InputError, match=message):
        enrol(folder(str(photos)), 0.6, 0, str(tmp_path), Stages())

    def append(self: VectorStore, *_: object) -> None:
        raise FULL

    monkeypatch.setattr(VectorStore, "append", append)
    with pytest.raises(InputError, match=message):
        Embedder("tiny", TinyRecognizer(), str(tmp_path), Stages()).clear(faces)

    def save_file(*_: object) -> None:
        raise weights_module.SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr(weights_module, "save_file", save_file)
    with pytest.raises(OSError, match="No space left on device"):
        weights_module.write_state({"a": torch.ones(1)}, tmp_path / "a.safetensors")

    names = [tmp_path / f"{number:0100}" for number in range(100)]  # more than the pages of an empty table hold
    for name in names:
        name.touch()
    memo = fingerprint.Memo(tmp_path)
    memo.table.execute("PRAGMA max_page_count = 1")
    with pytest.raises(InputError, match=message):
        list(map(memo, names))


def test_a_cache_that_is_no_folder_or_locks_nothing(
    small_run: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cache: .*file.* cannot be written \((Not a directory|File exists)\)"):
        prepare(small_run("task=prepare", f"cache={tmp_path / 'file'}"))

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError, match=r"cache: .* cannot be written \(No locks available: its file system locks no"):
        prepare(small_run("task=prepare", f"cache={tmp_path / 'cache'}"))
    run = RunFolder(str(tmp_path / "outputs"), Path("a"), {})
    with pytest.raises(InputError, match=r"outputs: .*No locks available.* set outputs= to"), run.claimed():
        raise AssertionError
    with pytest.raises(InputError, match=r"cache: .*No locks available"):
        enrol(folder(str(small_run().data["root"])), 0.6, 0, str(tmp_path / "other"), Stages())
