"""Every file in conf/ composes, its arguments fit what it names, and bad values are refused before anything loads."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from conftest import CONF, ROOT, compose_config, plugin
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object
from omegaconf.errors import OmegaConfBaseException

from veil.config import VIEW_SIZE
from veil.errors import InputError
from veil.types import CROP, VIEW

REQUIRED = {  # what has no default
    "data=folder": ["data.root=somewhere"],
    "data=celeba": ["data.root=somewhere"],
    "data=vggface2": ["data.root=somewhere"],
    "data=huggingface": ["data.path=somewhere"],
    "experiment=celeba_stable_diffusion": ["data.root=somewhere"],
    "judges=onnx": ["judges.own.file=somewhere.onnx"],
    "recognizer=local": ["recognizer.weights=somewhere.safetensors"],
    "recognizer=onnx": ["recognizer.file=somewhere.onnx"],
    "task=share": ["task.output=somewhere"],
}


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping under `node` that names a `_target_`."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for child in node.values():
            yield from targets(child)


def choices() -> list[str]:
    files = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name != "sweeps")  # those are W&B's to read
    return [f"{path.parent.name}={path.stem}" for path in files]


@pytest.mark.parametrize("choice", choices())
def test_arguments_fit_the_target(choice: str) -> None:
    if choice.startswith(("launcher=", "sweeper=")):
        plugin(choice)
    for node in targets(asdict(compose_config(choice, *REQUIRED.get(choice, [])))):
        target = get_object(node["_target_"])
        if node["_target_"].startswith("veil.tasks") and "_partial_" not in node:
            assert list(inspect.signature(target).parameters) == ["config"]  # a task reads its own knobs from there
            continue
        signature = inspect.signature(target)
        bind = signature.bind_partial if "_partial_" in node else signature.bind
        bind(**{key: value for key, value in node.items() if not key.startswith("_")})


def test_the_mission_at_paper_scale_is_one_file() -> None:
    config = compose_config("experiment=celeba_stable_diffusion", "data.root=somewhere")
    assert config.data["_target_"] == "veil.data.celeba.celeba"
    assert config.recognizer["weights"] == "vggface2"
    assert config.inpainter["model"].endswith("stable-diffusion-inpainting")
    assert "dlib" in config.judges
    sweep = HydraConfig.get().sweeper.params
    assert (sweep.masker, sweep.ratio) == ("random,gradcam,saliency", "0.1,0.25,0.5")
    tune = ("task=finetune", "task.mode=full", "task.loss=arcface", "task.variants=100")
    assert compose_config("experiment=celeba_stable_diffusion", "data.root=somewhere", *tune).task["mode"] == "full"


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_choice_says_what_it_is(path: Any) -> None:
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ratio=25", r"ratio .* in \(0, 1\], got 25"),
        ("ratio=0", r"ratio .* in \(0, 1\], got 0"),
        ("ratio=nan", r"ratio .* in \(0, 1\], got nan"),
        ("ratio=0.001", r"ratio must be at least 0.002, half a cell of 256, got 0.001"),
        ("cells=7", r"cells must be null or one of \[2, 4, 5, .* got 7"),
        ("seed=-1", r"seed must be in \[0, 2\*\*32\), got -1"),
        ("batch_size=0", r"batch_size must be at least 1, got 0"),
        ("workers=-2", r"workers must be at least 0, got -2"),
        ("image_format=gif", r"image_format must be one of \('png', 'jpg'\), got 'gif'"),
        ("inpainter.steps=many", r"inpainter.steps must be of type int, as its default 8 is, got 'many'"),
        ("classifier.epochs=2.5", r"classifier.epochs must be of type int, as its default 60 is, got 2.5"),
        ("recognizer.weights=3", r"recognizer.weights must be of type str, as its default 'packaged' is, got 3"),
        ("logger.originals=1", r"logger.originals must be of type bool, as its default False is, got 1"),
        ("hide_at_far=0.5", r"hide_at_far .* null or one of \(0.01, 0.001, 0.0001\), got 0.5"),
        ("protect=[ears]", r"protect must list some of \['eyes', .* boxes .* got 'ears'"),
        ("protect=[[0.2,0.2,0.1,0.4]]", r"protect must list .* left < right .* got \[0.2, 0.2, 0.1, 0.4\]"),
        ("protect=[[10,10,50,50]]", r"protect must list .* in \[0, 1\], .* got \[10, 10, 50, 50\]"),
        ("split.probes=1", r"split.probes .* null or at least 2, got 1"),
        ("on_error=ignore", r"on_error must be one of \('raise', 'skip'\), got 'ignore'"),
        ("split.gallery=1", r"split.gallery .* in \(0, 1\), got 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compose_config(override)


def test_what_is_kept_is_named_or_a_box() -> None:
    assert compose_config("protect=[mouth,[0.4,0,0.6,0.2]]").protect == ["mouth", [0.4, 0, 0.6, 0.2]]
    assert compose_config("masker=gradcam", "masker.weighting=gradcam++").masker["weighting"] == "gradcam++"
    assert compose_config("masker=landmarks", "masker.order=[nose,mouth]").masker["order"] == ["nose", "mouth"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("minimal=0.01", "hide_at_far=0.01"),
        ("keep=[mouth]", r"protect=\[mouth\]"),
        ("groups=[Male]", r"subgroups=\[Male\]"),
        ("attributes=true", "attribute_classifiers=true"),
        ("head=arcface", "classifier=arcface"),
        ("head.epochs=3", r"classifier\.epochs=3"),
        ("+head.epochs=3", r"classifier\.epochs=3"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(InputError, match=f"is called .* now: {new}$"):
        compose_config(old)


@pytest.mark.parametrize("override", ["mask=saliency", "masker.radius=2", "masker=nope", "batchsize=3"])
def test_a_typo_is_refused(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        compose_config(override)


@pytest.mark.parametrize("override", ["ratio=abc", "protect=mouth", "cells=1.5", "data=folder"])
def test_a_wrong_type_or_a_missing_value_is_refused(override: str) -> None:
    with pytest.raises((ConfigCompositionException, OmegaConfBaseException)):
        compose_config(override)


@pytest.mark.parametrize("judges", sorted(path.stem for path in (CONF / "judges").glob("*.yaml")))
def test_a_judge_that_has_the_name_of_a_recogniser_is_it(judges: str) -> None:
    choice = f"judges={judges}"
    for name, settings in compose_config(choice, *REQUIRED.get(choice, [])).judges.items():
        if (CONF / "recognizer" / f"{name}.yaml").exists():  # a run names the white box so
            assert settings == compose_config(f"recognizer={name}", *REQUIRED.get(f"recognizer={name}", [])).recognizer


def test_the_schema_knows_the_size_of_the_view() -> None:
    assert VIEW_SIZE == CROP * VIEW


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_and_config_do_not_wait_for_torch(arguments: list[str]) -> None:
    def seconds(*words: str) -> float:
        before = os.times()
        command = [sys.executable, "-X", "importtime", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        after = os.times()  # of the processor: others that work beside the tests do not count
        if "run.py" in words:
            assert "| torch" not in done.stderr
            assert "saliency" in done.stdout
        return sum(after[2:4]) - sum(before[2:4])

    torch_alone = min(seconds("-c", "import torch") for _ in range(2))
    assert min(seconds("run.py", *arguments) for _ in range(3)) < 1.5 * torch_alone  # whatever the processor


def test_help_names_groups_choices_and_examples() -> None:
    shown = subprocess.run([sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir()):
        assert f"{group}: " in shown.stdout
    assert shown.stdout.count("python run.py ") >= 3
