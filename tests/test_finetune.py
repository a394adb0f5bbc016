"""Fine-tuning: what is frozen does not change by a bit, what is trained can be loaded again, for its split alone."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from hydra.errors import InstantiationException
from hydra.types import RunMode
from safetensors.torch import load_file
from torch import Tensor, nn

from veil.config import Config
from veil.data.faces import enrol
from veil.data.folder import folder
from veil.data.splitfile import checksum
from veil.errors import InputError
from veil.recognizers.checkpoint import read_checkpoint, refuse_another_split, revision, split_checksum
from veil.recognizers.facenet import FaceNet
from veil.storage.addresses import head_folder
from veil.storage.networks import weights_of
from veil.storage.progress import Stages
from veil.tasks.evaluate import evaluate
from veil.tasks.finetune import finetune, read_recipe
from veil.tasks.prepare import prepared
from veil.training.curve import read_curve
from veil.training.features import trained_part
from veil.training.tuning import Tuning

LAST_BLOCK = ("network.block8.", "network.last_linear.", "network.last_bn.")


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where fine-tunings lie that several tests look at."""
    return str(tmp_path_factory.mktemp("tuned"))


@pytest.fixture
def tuned(small_run: Callable[..., Config], outputs: str) -> Callable[..., Path]:
    """Folders of short fine-tunings of FaceNet's last block."""

    def run(*overrides: str, outputs: str = outputs) -> Path:
        knobs = ("task=finetune", "task.mode=last_block", "task.epochs=2", "task.held_out=0.34", "classifier.epochs=3")
        return finetune(small_run(*knobs, *overrides, outputs=outputs))

    return run


def test_the_head_is_trained_once_and_is_found_again(
    small_run: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run("task=finetune")
    place = finetune(config)
    enrolment = prepared(config, Stages())
    assert place == head_folder(config, checksum(enrolment)).path
    figures = json.loads((place / "metrics.json").read_text())
    for figure in ("accuracy", "nearest_centroid"):
        assert figures["figures"][f"everybody/facenet/{figure}"]["value"] == 1
        assert figures["figures"][f"everybody/facenet/{figure}"]["n"] == 12
    assert figures["figures"]["everybody/facenet/tar@far=1e-3"]["absent"].endswith("10 and 5 are needed")
    assert 0 < figures["details"]["seconds_per_epoch"]["head"] < 1
    state = load_file(place / "checkpoint.safetensors")
    assert set(state) == {"head.weight", "head.bias"}
    assert state["head.weight"].shape == (6, 512)
    assert [row["epoch"] for row in read_curve(place / "head" / "curve.csv")] == list(
        range(figures["details"]["epochs"]["head"])
    )
    assert (place / "head" / "curve.png").exists()
    assert not list(place.glob("**/*.ckpt"))
    capsys.readouterr()
    stamp = (place / "checkpoint.safetensors").stat().st_mtime_ns
    assert finetune(config) == place
    assert "Found the finished run" in capsys.readouterr().out
    assert (place / "checkpoint.safetensors").stat().st_mtime_ns == stamp
    again = load_file(finetune(small_run("task=finetune", outputs="elsewhere")) / "checkpoint.safetensors")
    assert all(torch.equal(state[name], again[name]) for name in state)


@pytest.mark.parametrize("loss", ["softmax", "triplet"])
def test_below_the_last_block_nothing_changes_by_a_bit(tuned: Callable[..., Path], cache: str, loss: str) -> None:
    place = tuned(f"task.loss={loss}", "task.per_person=2", "task.batch_size=6")
    before, after = FaceNet("packaged", cache), FaceNet("packaged", cache, str(place))
    moved = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert moved
    assert all(name.startswith(LAST_BLOCK) for name in moved)
    assert not any("running" in name or "num_batches" in name for name in moved)  # BatchNorm statistics
    assert {name.removeprefix("recognizer.") for name in load_file(place / "checkpoint.safetensors")} == {
        *moved, "head.weight", "head.bias"
    }  # fmt: skip
    assert not any(module.training for module in after.modules())
    details = json.loads((place / "checkpoint.json").read_text())
    assert details["mode"] == "last_block"
    assert details["recipe"]["task"]["loss"] == loss
    assert details["base"] == weights_of(before)
    assert details["revision"] == revision()
    assert details["metrics"]["everybody/facenet/accuracy"]["n"] == 12
    assert sorted(path.name for path in place.iterdir()) == [
        "address.json", "checkpoint.json", "checkpoint.safetensors", "config.yaml", "confusions.csv", "head",
        "last_block", "metrics.json", "published.json", "training_people.txt",
    ]  # fmt: skip


def test_the_checkpoint_carries_on_in_evaluate_and_refuses_another_split(
    tuned: Callable[..., Path], small_run: Callable[..., Config]
) -> None:
    place = tuned()
    few = ("masker=random", "inpainter=fill", "attacks=none", "logger=csv")
    figures = json.loads((evaluate(small_run(*few, f"recognizer.checkpoint='{place}'")) / "metrics.json").read_text())
    assert figures["figures"]["clear/facenet/accuracy"]["value"] == 1
    with pytest.raises(InputError, match=r"recognizer.checkpoint='.*' was fine-tuned on the split \w+, and this run's"):
        evaluate(small_run(*few, f"recognizer.checkpoint='{place}'", "seed=1"))
    with pytest.raises(InputError, match=r"recognizer.checkpoint must be null for task=finetune"):
        finetune(small_run("task=finetune", f"recognizer.checkpoint='{place}'"))


def test_the_checksum_is_of_keys_people_and_roles(photos: Path, cache: str) -> None:
    enrolment = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    first = split_checksum(enrolment)
    turned = enrolment._replace(gallery=enrolment.gallery.select(reversed(range(len(enrolment.gallery)))))
    assert split_checksum(turned) == first
    for other in (
        enrol(folder(str(photos)), 0.6, 1, cache, Stages()),
        enrol(folder(str(photos)), 0.8, 0, cache, Stages()),
        enrolment._replace(people=["someone", *enrolment.people[1:]]),
        enrolment._replace(gallery=enrolment.probes, probes=enrolment.gallery),
    ):
        assert split_checksum(other) != first
    refuse_another_split(nn.Linear(1, 1), enrolment)  # not fine-tuned: fits every split


def test_a_checkpoint_is_refused_where_it_does_not_belong(
    tuned: Callable[..., Path], cache: str, tmp_path: Path
) -> None:
    place = tmp_path / "copy"
    shutil.copytree(tuned(), place)
    with pytest.raises(InputError, match=r"recognizer.checkpoint must be a folder that task=finetune made"):
        FaceNet("packaged", cache, str(tmp_path / "none"))
    assert read_checkpoint(place).state.keys() == read_checkpoint(place / "checkpoint.safetensors").state.keys()
    details = json.loads((place / "checkpoint.json").read_text())
    (place / "checkpoint.json").write_text(json.dumps(details | {"base": "0"}))
    with pytest.raises(InputError, match=r"was fine-tuned from other weights than recognizer.weights=packaged"):
        FaceNet("packaged", cache, str(place))
    (place / "checkpoint.json").unlink()
    with pytest.raises(InputError, match=r"with its .json beside it"):
        FaceNet("packaged", cache, str(place))


def test_a_killed_run_goes_on_and_ends_where_it_would_have(
    tuned: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned("task.epochs=3", outputs="whole")
    step = Tuning.training_step

    def dying(self: Tuning, batch: list[Tensor], number: int) -> Tensor:
        if self.current_epoch == 2:
            raise KeyboardInterrupt("power cut")
        return step(self, batch, number)

    monkeypatch.setattr(Tuning, "training_step", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        tuned("task.epochs=3", outputs="killed")
    steps: list[int] = []

    def counting(self: Tuning, batch: list[Tensor], number: int) -> Tensor:
        steps.append(self.current_epoch)
        return step(self, batch, number)

    monkeypatch.setattr(Tuning, "training_step", counting)
    place = tuned("task.epochs=3", outputs="killed")
    assert min(steps) == 0  # the head's
    assert set(steps[:1]) == {2}  # the last block's
    one, two = (load_file(path / "checkpoint.safetensors") for path in (whole, place))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [row["epoch"] for row in read_curve(place / "last_block" / "curve.csv")] == [0, 1, 2]


@pytest.mark.slow
def test_two_processes_train_one_checkpoint(photos: Path, cache: str, tmp_path: Path) -> None:
    knobs = ("task=finetune", "task.mode=last_block", "task.epochs=2", "task.held_out=0.34", "classifier.epochs=3")
    where = ("data=folder", f"data.root={photos}", f"cache={cache}", f"outputs={tmp_path}", "split.gallery=0.6")
    devices = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=csv")
    command = [sys.executable, "run.py", *knobs, *where, *devices]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "MEMBER: 2/2" in done.stdout
    (path,) = tmp_path.rglob("checkpoint.safetensors")
    assert [row["epoch"] for row in read_curve(path.parent / "last_block" / "curve.csv")] == [0, 1]
    moved = set(read_checkpoint(path).trunk())
    assert moved
    assert all(name.startswith(LAST_BLOCK) for name in moved)
    assert FaceNet("packaged", cache, str(path)).checkpoint is not None


def test_several_devices_are_refused_in_a_multirun(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    config = small_run("task=finetune", "task.mode=last_block", *two)
    monkeypatch.setattr("veil.tasks.fit.HydraConfig.get", lambda: SimpleNamespace(mode=RunMode.MULTIRUN))
    with pytest.raises(InputError, match=r"trainer.devices must be 1 in a multirun, .* got 2; .* without -m"):
        finetune(config)


@pytest.mark.parametrize("mode", ["full", "last_block"])
def test_each_mode_trains_its_part_and_no_more(
    small_run: Callable[..., Config], cache: str, photos: Path, mode: str
) -> None:
    recipe = read_recipe(small_run("task=finetune", f"task.mode={mode}").task)
    enrolment = enrol(folder(str(photos)), 0.6, 0, cache, Stages())
    recognizer = FaceNet("packaged", cache)
    part = trained_part(recognizer, recipe, enrolment, cache, Stages())
    trained = {name for name, value in recognizer.named_parameters() if value.requires_grad}
    assert trained
    assert all(name.startswith(LAST_BLOCK) for name in trained) == (mode == "last_block")
    row = part.gallery[0][None]
    face = enrolment.gallery[0].images
    torch.testing.assert_close(part.embedder(row), FaceNet("packaged", cache)(face))


def test_all_of_the_network_is_trained_and_loaded_again(tuned: Callable[..., Path], cache: str) -> None:
    place = tuned("task.mode=full", "task.epochs=1", "task.learning_rate=1e-4", "task.variants=3", "task.accumulate=2")
    before, after = FaceNet("packaged", cache).state_dict(), FaceNet("packaged", cache, str(place)).state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"network.conv2d_1a.conv.weight", "network.repeat_2.9.conv2d.bias", "network.last_linear.weight"} <= moved
    assert not any("running" in name or "num_batches" in name for name in moved)
    figures = json.loads((place / "metrics.json").read_text())["figures"]
    assert figures["everybody/facenet/accuracy"]["value"] == 1
    assert figures["everybody/untouched/nearest_centroid"]["value"] == 1


def test_the_other_recognisers_keep_to_their_heads(small_run: Callable[..., Config]) -> None:
    with pytest.raises(InputError, match=r"task.mode=last_block needs recognizer=facenet, .* got Dlib"):
        finetune(small_run("task=finetune", "recognizer=dlib", "task.mode=last_block"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.mode=all", r"task.mode must be one of .* got 'all'"),
        ("task.loss=hinge", r"task.loss must be one of .* got 'hinge'"),
        ("task.held_out=1", r"task.held_out must be a share of the people, in \[0, 1\), got 1"),
        ("task.loss=triplet", r"task.per_person must be at least 2 for task.loss=triplet, which compares them, got 1"),
        ("task.balance=2", r"task.balance must be in \[0, 1\], got 2"),
        ("task.accumulate=0", r"task.accumulate must be at least 1, got 0"),
        ("task.scale=-1", r"task.scale must be above 0 .* got -1"),
        ("task.augment.crop=0.9", r"task.augment.crop must be in \[0, 0.3\], got 0.9"),
        ("classifier.loss=triplet", r"classifier.loss=triplet trains an embedding"),
        ("classifier.learning_rate=0.0", r"classifier.learning_rate must be above 0, got 0.0"),
    ],
)
def test_a_knob_out_of_range_is_refused_by_name(small_run: Callable[..., Config], override: str, message: str) -> None:
    with pytest.raises((InputError, InstantiationException), match=message):
        finetune(small_run("task=finetune", override))


@pytest.mark.parametrize("head", ["arcface", "cosface"])
def test_every_head_names_the_people(small_run: Callable[..., Config], head: str) -> None:
    place = finetune(small_run("task=finetune", f"classifier={head}"))
    assert json.loads((place / "metrics.json").read_text())["figures"]["everybody/facenet/accuracy"]["value"] == 1
