"""Nothing stale is ever found again: photos, weights, code, folders and devices that changed."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import compose_config
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from veil.config import Config, conf_folder
from veil.data.faces import enrol
from veil.errors import InputError
from veil.storage import fingerprint
from veil.storage.addresses import evaluation_folder, set_folder
from veil.storage.fingerprint import SPEED
from veil.tasks.evaluate import evaluate
from veil.tasks.finetune import finetune
from veil.tasks.prepare import prepare
from veil.tasks.verify import verify

Configure = Callable[..., Config]
QUICK = ("masker=random", "inpainter=fill", "attacks=none", "metrics=default")


def figures(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())["figures"]


@pytest.fixture
def own(photos: Path, tmp_path: Path) -> Path:
    """Photos that a test may change."""
    return Path(shutil.copytree(photos, tmp_path / "own"))


def test_people_that_come_go_or_change_names_train_another_head(small_run: Configure, own: Path) -> None:
    quick = (*QUICK, f"data.root={own}")
    before = evaluate(small_run(*quick))
    assert figures(before)["clear/facenet/accuracy"]["value"] == 1
    shutil.copytree(own / "s4", own / "a_first")  # sorts before everybody: each person's number changes
    shutil.rmtree(own / "s4")
    for change in ("ratio=0.5", "ratio=0.25"):
        after = figures(evaluate(small_run(*quick, change)))
        assert after["clear/facenet/accuracy"]["value"] == 1
    shutil.copytree(own / "a_first", own / "z_last")  # the same person under two names: somebody must be mistaken
    assert figures(evaluate(small_run(*quick)))["clear/facenet/accuracy"]["n"] == 14


def test_photos_that_were_added_or_overwritten_are_evaluated(small_run: Configure, own: Path) -> None:
    quick = (*QUICK, f"data.root={own}")
    before = evaluate(small_run(*quick))
    assert evaluate(small_run(*quick)) == before
    (own / "s1" / "9.pgm").write_bytes((own / "s1" / "1.pgm").read_bytes())
    added = evaluate(small_run(*quick))
    assert added != before
    (own / "s1" / "9.pgm").unlink()
    assert evaluate(small_run(*quick)) == before  # as it was: found again
    (own / "s2" / "1.pgm").write_bytes((own / "s2" / "2.pgm").read_bytes())
    assert evaluate(small_run(*quick)) not in (before, added)


def test_the_same_photos_elsewhere_are_the_same_run(
    small_run: Configure, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    shutil.copytree(own, tmp_path / "one" / "faces")
    shutil.copytree(own, tmp_path / "two" / "faces")
    shutil.rmtree(tmp_path / "two" / "faces" / "s6")
    found = []
    for project in ("one", "two", "one"):
        monkeypatch.chdir(tmp_path / project)
        found.append(evaluate(small_run(*QUICK, "data.root=faces")))
    assert found[0] == found[2] != found[1]
    assert figures(found[1])["clear/facenet/accuracy"]["n"] == 10


def test_weights_that_were_overwritten_are_used(small_run: Configure, cache: str, tmp_path: Path) -> None:
    evaluate(small_run(*QUICK))  # converts the packaged weights
    (converted,) = Path(cache).glob("**/*casia*.safetensors")
    mine = tmp_path / "mine.safetensors"
    state = load_file(converted)
    save_file(state, mine)
    quick = (*QUICK, f"recognizer.weights={mine}")
    before = evaluate(small_run(*quick))
    tuning, pairing = ("task=finetune", quick[-1]), ("task=verify", quick[-1], "task.folds=2", "task.each=6")
    head, pairs = finetune(small_run(*tuning)), verify(small_run(*pairing))
    generator = torch.Generator().manual_seed(0)
    weight = state["last_linear.weight"]
    state["last_linear.weight"] = torch.randn(weight.shape, generator=generator) * weight.std()
    save_file(state, mine)
    after = evaluate(small_run(*quick))
    assert after != before
    assert figures(after)["privacy/facenet/cosine"] != figures(before)["privacy/facenet/cosine"]
    assert finetune(small_run(*tuning)) != head
    assert verify(small_run(*pairing)) != pairs


def test_a_maskers_code_that_changed_scores_again(
    small_run: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("veil.maskers.cached.WORTH", 0)
    masker = tmp_path / "their_own_masker.py"
    masker.write_text("def score(faces, recognizer):\n    return faces.images.mean(dim=1)[:, ::16, ::16]\n")
    own = ("masker._target_=their_own_masker.score", "~masker.centre_bias", "~masker.cells", "cache_scores=true")
    before = evaluate(small_run("masker=random", *own))
    masker.write_text(
        "def score(faces, recognizer):  # the darkest\n    return -faces.images.mean(dim=1)[:, ::16, ::16]\n"
    )
    sys.modules.pop("their_own_masker")
    for function in (fingerprint._found, fingerprint._module_of, fingerprint._syntax, fingerprint._imports):
        function.cache_clear()
    after = evaluate(small_run(*QUICK, *own))
    assert after != before
    masks = [sorted((folder.parent / "probes" / "masks").iterdir())[0].read_bytes() for folder in (before, after)]
    assert masks[0] != masks[1]


def test_photos_in_folders_that_were_empty_or_deep_are_noticed(
    small_run: Configure, photos: Path, tmp_path: Path
) -> None:
    root = tmp_path / "people"
    shutil.copytree(photos, root / "team")
    (root / "team" / "late").mkdir()
    where = (*QUICK, f"data.root={root}")
    before = evaluate(small_run(*where))
    assert evaluate(small_run(*where)) == before
    for photo in (root / "team" / "s1").iterdir():
        shutil.copy(photo, root / "team" / "late" / photo.name)
    (root / "team" / "late").touch()
    after = evaluate(small_run(*where))
    assert after != before
    shutil.copytree(root / "team" / "s2", root / "team" / "another")
    assert evaluate(small_run(*where)) not in (before, after)


def test_photos_that_change_while_they_are_read_are_read_again(
    small_run: Configure, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, read = tmp_path / "people", list[int]()
    shutil.copytree(photos, root)

    def meanwhile(*arguments: Any) -> Any:
        found = enrol(*arguments)
        if not read:
            shutil.copy(root / "s1" / "1.pgm", root / "s2" / "9.pgm")
        read.append(len(found.gallery) + len(found.probes))
        return found

    monkeypatch.setattr("veil.tasks.prepare.enrol", meanwhile)
    prepare(small_run(f"data.root={root}", f"cache={tmp_path / 'cache'}"))
    assert read == [30, 31]


def test_reading_ends_on_a_file_system_that_never_says_the_same(
    small_run: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[int]()

    def counted(*arguments: Any) -> Any:
        found = enrol(*arguments)
        read.append(len(found.gallery))
        return found

    monkeypatch.setattr("veil.tasks.prepare.enrol", counted)
    times = count()
    monkeypatch.setattr("veil.data.header.stamp", lambda _: [next(times)])
    prepare(small_run(f"cache={tmp_path / 'cache'}"))
    assert read == [18, 18]


def test_photos_whose_time_alone_changed_are_the_same_data(
    small_run: Configure, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = evaluate(small_run(*QUICK, f"data.root={own}"))
    capsys.readouterr()
    os.utime(own / "s1" / "1.pgm")
    assert evaluate(small_run(*QUICK, f"data.root={own}")) == done
    told = capsys.readouterr().out
    assert f"{own / 's1' / '1.pgm'} has another time or size than when the data set was prepared" in told
    assert "has changed" not in told


def test_own_code_edited_after_it_was_read_is_refused_unless_only_its_words_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "late.py").write_text("SIGN = 1.0\n")
    (package / "early.py").write_text("def run():\n    import own_package.late\n")  # is not loaded yet
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    first = fingerprint.code("own_package.early")
    (package / "late.py").write_text("SIGN = 1.0  # as before\n")
    assert fingerprint.code("own_package.early") == first
    (package / "late.py").write_text("SIGN = -1.0\n")
    with pytest.raises(InputError, match=r"late\.py was edited after it was read: start Python anew"):
        fingerprint.code("own_package.early")


def test_a_module_edited_after_it_was_loaded_is_refused(
    small_run: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("SIGN = 1.0\n")
    (package / "mine.py").write_text(
        "from veil.maskers.random import random_patches\n\n\n"
        "def mine(faces, recognizer):\n    return random_patches(faces, recognizer, 16)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = (*QUICK, "masker._target_=their_package.mine.mine", "~masker.cells", "~masker.centre_bias")
    first = set_folder(small_run(*own), "photos").path
    evaluate(small_run(*own))
    os.utime(package / "mine.py")
    evaluate(small_run(*own))  # the same code
    (package / "__init__.py").write_text("SIGN = -1.0\n")
    with pytest.raises(InputError, match=r"__init__\.py was edited after it was loaded: start Python anew"):
        evaluate(small_run(*own))
    for name in ("their_package", "their_package.mine"):
        sys.modules.pop(name)
    for function in (fingerprint._found, fingerprint._module_of, fingerprint._syntax, fingerprint._imports):
        function.cache_clear()
    assert set_folder(small_run(*own), "photos").path != first  # a package's __init__ is code that runs


LATE = """
import os
from veil.recognizers.eigenfaces import Eigenfaces

class Late(Eigenfaces):
    def __init__(self):
        if "LATE" not in os.environ:
            raise ModuleNotFoundError("late: `pip install late`")
        super().__init__()
"""


def test_a_judge_that_can_be_had_again_is_asked(
    small_run: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_judge.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    asked = (*QUICK[:2], "+judges.late._target_=late_judge.Late")
    without = evaluate(small_run(*asked))
    assert figures(without)["privacy/late/rank1"]["absent"] == "late: `pip install late`"
    assert evaluate(small_run(*asked)) == without
    monkeypatch.setenv("LATE", "")
    again = evaluate(small_run(*asked))
    assert again != without
    assert "value" in figures(again)["privacy/late/rank1"]
    assert evaluate(small_run(*asked)) == again


def test_another_device_or_precision_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def place(*overrides: str) -> Path:
        return set_folder(compose_config("inpainter=stable_diffusion", *overrides), "photos").path

    here = place()
    assert place("inpainter.dtype=float16") != here
    monkeypatch.setattr(fingerprint, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert place() != here  # bfloat16 there, float32 here
    assert place("inpainter.device=cuda:1") == place("inpainter.device=cuda:0")


def knobs() -> list[tuple[str, str]]:
    """Every knob of every choice of the groups that an evaluation is made with."""
    groups = (
        "masker",
        "inpainter",
        "recognizer",
        "classifier",
        "judges",
        "attacks",
        "controls",
        "metrics",
        "surrogates",
        "features",
    )
    found = []
    for group in groups:
        for path in sorted((conf_folder() / group).glob("*.yaml")):
            config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
            assert isinstance(config, dict)
            found += [(f"{group}={path.stem}", f"{group}.{knob}") for knob in leaves(config)]
    return found


def leaves(node: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in node.items():
        if key in ("defaults", "_target_", "_partial_", "_convert_") or value == "???":
            continue
        if isinstance(value, dict):
            found += leaves(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}")
    return found


@pytest.mark.parametrize(("choice", "knob"), knobs())
def test_every_knob_is_in_the_address_unless_it_only_changes_speed(choice: str, knob: str) -> None:
    needed = ["recognizer.weights=a.pt"] if choice == "recognizer=local" else []
    needed += ["recognizer.file=a.onnx"] if choice == "recognizer=onnx" else []
    configs = [compose_config(choice, *needed, *turned) for turned in ([], [f"{knob}=null"])]
    before, after = (evaluation_folder(config, set_folder(config, "photos"), 0).path for config in configs)
    value: Any = getattr(configs[0], knob.split(".")[0])
    for part in knob.split(".")[1:]:
        value = value[part]
    learnt = knob.startswith("classifier.")  # there the size of a batch is no matter of speed
    if value is None or (knob.rpartition(".")[2] in SPEED and not learnt):
        assert before == after
    else:
        assert before != after
