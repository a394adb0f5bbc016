"""An address changes if, and only if, something changes that can change a result."""

import os
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from veil.storage import fingerprint
from veil.storage.fingerprint import code, content, digest, model, settings, unlike
from veil.storage.networks import weights_of


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A masker of somebody's own, in their own file."""
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "their_masker.py"
    path.write_text('"""Theirs."""\n\n\ndef score(faces):\n    """Score."""\n    return faces  # as they are\n')
    yield path
    sys.modules.pop("their_masker", None)
    forget()


def forget() -> None:
    for function in (fingerprint._found, fingerprint._module_of, fingerprint._syntax, fingerprint._imports):
        function.cache_clear()


def rewritten(path: Path, old: str, new: str) -> str:
    path.write_text(path.read_text().replace(old, new))
    forget()
    return code("their_masker.score")


def test_code_counts_and_comments_do_not(module: Path) -> None:
    first = code("their_masker.score")
    assert rewritten(module, "# as they are", "# whatever this says") == first
    assert rewritten(module, "Score.", "Another docstring.") == first
    assert rewritten(module, "(faces)", "( faces )") == first
    assert rewritten(module, "return faces", "return -faces") != first
    assert "their_masker" not in sys.modules  # nothing was run to find that out


def test_code_is_followed_into_what_a_users_module_imports(module: Path) -> None:
    helper = module.with_name("their_helper.py")
    helper.write_text("SIGN = 1\n")
    first = rewritten(module, "def score", "from their_helper import SIGN\n\n\ndef score")
    helper.write_text("SIGN = -1\n")
    forget()
    assert code("their_masker.score") != first


def test_code_is_followed_through_what_veil_imports() -> None:
    found: dict[str, str] = {}
    fingerprint._collect("veil.maskers.cam", found)
    assert {"veil.maskers.cam", "veil.recognizers.whitebox", "veil.types"} <= set(found)
    assert not any(name.startswith(("veil.report", "veil.storage.progress", "veil.storage")) for name in found)
    fingerprint._collect("veil.tasks.measure", found)
    assert {"veil.evaluation.campaign", "veil.metrics.information"} <= set(found)
    assert all(len(syntax) == 32 for syntax in found.values())


def test_every_module_of_veil_is_found_without_importing_it() -> None:
    root = Path(fingerprint.__file__).parents[1]
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        assert fingerprint._found(name) == (name, path)
    with pytest.raises(ModuleNotFoundError, match=r"no module for 'nowhere\.at_all'"):
        code("nowhere.at_all")


def test_a_setting_that_names_a_file_stands_for_what_is_in_it(tmp_path: Path) -> None:
    cache, one, other = str(tmp_path / "cache"), tmp_path / "a.pt", tmp_path / "b.pt"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    group = {"_target_": "veil.recognizers.local.Local", "input_size": 160}
    first = settings(group | {"weights": str(one)}, cache)
    assert settings(group | {"weights": str(other)}, cache) == first
    before = one.stat()
    one.write_bytes(b"WEIGHTS")  # overwritten: as long as before, and said to be as old
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert settings(group | {"weights": str(one)}, cache) != first
    assert settings(group | {"weights": str(other), "input_size": 112}, cache) != first


def test_what_only_changes_speed_is_left_out(tmp_path: Path) -> None:
    group = {"_target_": "veil.inpainters.diffusion.DiffusionInpainter", "model": "package:face_diffusion", "steps": 8}
    first = settings(group, str(tmp_path))
    for knob, value in {"batch_size": 3, "compile": True, "cache": "/elsewhere"}.items():
        assert settings(group | {knob: value}, str(tmp_path)) == first
    cpu, first_gpu, second_gpu = (
        settings(group | {"device": device}, str(tmp_path)) for device in ("cpu", "cuda:0", "cuda:1")
    )
    assert cpu != first_gpu == second_gpu
    own = {"_target_": "json.dumps", "outputs": 1.0, "batch_size": 4}  # there the names may mean anything
    for knob in ("outputs", "batch_size"):
        assert settings(own | {knob: -1.0}, str(tmp_path)) != settings(own, str(tmp_path))
    assert settings(group | {"steps": 4}, str(tmp_path)) != first
    assert digest({"a": 3, "b": [1]}) == digest({"b": (1.0,), "a": 3.0}) != digest({"a": 3, "b": [True]})


def test_models_are_known_by_content_or_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = tmp_path / "model", str(tmp_path / "cache")
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.safetensors").write_bytes(b"1")
    first = model(str(folder), None, cache)
    (folder / "MODEL_CARD.md").write_text("What it is.")
    assert model(str(folder), None, cache) == first
    (folder / "unet" / "weights.safetensors").write_bytes(b"2")
    assert model(str(folder), None, cache) != first
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert model("somebody/model", None, cache) == ["somebody/model", None]
    refs = tmp_path / "hub" / "models--somebody--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("c0ffee\n")
    assert model("somebody/model", None, cache) == ["somebody/model", "c0ffee"]


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (tmp_path / "photos" / f"{number % 7}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / f"{number % 7}" / f"{number}.png").write_bytes(bytes([number]))
    first = content(tmp_path / "photos", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("read again"))
    assert content(tmp_path / "photos", str(tmp_path / "cache")) == first

    def seconds(look: Callable[[], object]) -> float:
        return min(timeit.repeat(look, number=1, repeat=5))  # the least: others use the processor, too

    looked = seconds(lambda: content(tmp_path / "photos", str(tmp_path / "cache")))
    walked = seconds(lambda: [path.stat() for path in (tmp_path / "photos").rglob("*")])
    assert looked < 100 * walked
    monkeypatch.undo()
    (tmp_path / "photos" / "0" / "0.png").rename(tmp_path / "photos" / "0" / "z.png")
    assert content(tmp_path / "photos", str(tmp_path / "cache")) != first


class Preprocessed(nn.Module):
    def __init__(self, mean: float = 0.5, bias: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        nn.init.constant_(self.inner.weight, 1.0)
        nn.init.constant_(self.inner.bias, bias)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)


class Renamed(Preprocessed):
    pass


def test_weights_are_everything_that_an_embedding_depends_on() -> None:
    first = weights_of(Preprocessed())
    assert weights_of(Preprocessed()) == first
    assert weights_of(Preprocessed(mean=0.4)) != first  # a buffer that no checkpoint holds
    assert weights_of(Preprocessed(bias=1.0)) != first
    assert weights_of(Renamed()) != first
    assert weights_of(Preprocessed().half()) != first
    with_size = Preprocessed()
    with_size.preprocessing = {"input_size": 160}
    assert weights_of(with_size) != first
    nested = nn.Sequential(with_size)
    before = weights_of(nested)
    with_size.preprocessing = {"input_size": 112}
    assert weights_of(nested) != before


def test_addresses_say_what_tells_them_apart() -> None:
    one = {"data": "a", "masker": {"code": "1", "centre_bias": 2}, "seed": 0}
    other = {"data": "b", "masker": {"code": "1", "centre_bias": 3.0}, "seed": 0.0, "keep": ["mouth"]}
    assert unlike(one, other) == ["data", "keep", "masker.centre_bias"]
    assert unlike(one, dict(one)) == []
