"""The cache within its limit: least recently used first, never what a running process uses."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from veil.config import Config, bytes_of
from veil.errors import InputError
from veil.storage import cache
from veil.storage.folders import read_manifest
from veil.tasks.evaluate import evaluate

JOINED = "import sys, time, veil.storage.cache as cache\ncache.join(sys.argv[1])\nprint()\ntime.sleep(99)"


def filled(folder: Path) -> dict[str, Path]:
    """Five entries of 1000 bytes, used 5, 4 ... 1 hours ago; a crop has a mark beside it, embeddings two files."""
    names = [
        "crops/ab/old.png",
        "scores/x/a.npy",
        "embeddings/net/vectors-4",
        "controls/b.safetensors",
        "features/c.npy",
    ]
    paths = {}
    for hours, name in zip((5, 4, 3, 2, 1), names, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - 3600 * hours,) * 2)
        paths[path.suffix or "vectors"] = path
    (folder / "crops/ab/old.box").touch()
    os.utime(folder / "crops/ab/old.box", (0, 0))
    (folder / "crops/ab/faceless.none").touch()
    (folder / "embeddings/net/.lock").touch()
    return paths


def left(folder: Path) -> list[str]:
    folders = [*cache.FILES, "embeddings"]
    return sorted(path.name for name in folders for path in (folder / name).rglob("*") if path.is_file())


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    filled(tmp_path)
    assert cache.remove(tmp_path, 5000) == (0, 5000)
    assert cache.remove(tmp_path, 3999) == (2000, 3000)
    assert left(tmp_path) == [".lock", "b.safetensors", "c.npy", "faceless.none", "vectors-4"]
    assert cache.used(tmp_path / "embeddings/net/vectors-4")
    assert cache.remove(tmp_path, 1000) == (2000, 1000)
    assert left(tmp_path) == [".lock", "faceless.none", "vectors-4"]
    assert not cache.used(tmp_path / "features/c.npy")


def test_a_crop_goes_with_its_marks_and_with_the_further_faces_of_its_photo(tmp_path: Path) -> None:
    """Without them the main face of a photo would be taken for the only one."""
    folder = tmp_path / "crops" / "ab"
    folder.mkdir(parents=True)
    (folder / "abmain.png").write_bytes(bytes(1000))
    (folder / "abmain.box").touch()
    (folder / "abmain.others").write_text("abother")
    (folder / "abother.png").write_bytes(bytes(1000))
    os.utime(folder / "abmain.others", (0, 0))
    os.utime(folder / "abother.png", (0, 0))
    assert cache.remove(tmp_path, 2007) == (0, 2007)
    assert cache.remove(tmp_path, 2006) == (2007, 0)
    assert left(tmp_path) == []


def test_nothing_goes_that_a_running_process_uses(tmp_path: Path) -> None:
    paths = filled(tmp_path)
    process = subprocess.Popen([sys.executable, "-uc", JOINED, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    cache.used(paths[".png"])  # by it, say
    assert cache.remove(tmp_path, 0) == (4000, 1000)
    assert left(tmp_path) == [".lock", "faceless.none", "old.box", "old.png"]
    process.kill()
    process.communicate()
    assert cache.remove(tmp_path, 0) == (1000, 0)
    assert not list(tmp_path.glob(".users/*"))


def test_a_run_keeps_what_it_used_and_the_next_makes_what_is_gone(
    small_run: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "cache"
    knobs = ("masker=random", "recognizer=eigenfaces", "attacks=none", f"cache={own}")
    first = evaluate(small_run(*knobs))
    there = left(own)
    assert len(there) > 30
    cache.tidy(str(own), "0.5MB")
    assert left(own) == there
    assert "more than cache_limit=0.5MB" in capsys.readouterr().out
    os.close(cache.OWN.pop(own))  # as its end would
    removed, _ = cache.remove(own, 0)
    assert removed > 30 * 10_000
    second = evaluate(small_run(*knobs, outputs="again"))
    assert "30 crops are gone from the cache: making them again" in capsys.readouterr().out
    assert read_manifest(first) == read_manifest(second)
    assert left(own) == there


def test_a_cache_that_cannot_be_tidied_ends_no_run_that_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "crops/ab.png")

    cache.join(str(tmp_path))
    monkeypatch.setattr(cache, "remove", refuse)
    cache.tidy(str(tmp_path), "1KB")
    told = "Cache: not brought within cache_limit=1KB: [Errno 13] Permission denied: 'crops/ab.png'\n"
    assert capsys.readouterr().out == told


@pytest.mark.parametrize(("limit", "size"), [("20GB", 20 * 10**9), ("1.5 tb", 1.5 * 10**12), ("3KB", 3000)])
def test_a_limit_in_bytes(limit: str, size: float) -> None:
    assert bytes_of(limit) == size
    assert cache.shown(int(size)).replace(".0", "").replace(" ", "") == limit.upper().replace(" ", "")


@pytest.mark.parametrize("limit", ["20", "-1GB", "GB", "20GiB"])
def test_another_limit_is_refused(limit: str, small_run: Callable[..., Config]) -> None:
    with pytest.raises(InputError, match=f"cache_limit must be null or a size such as .*, got {limit}"):
        small_run(f"cache_limit={limit}")
