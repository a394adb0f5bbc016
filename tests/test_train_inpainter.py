"""`task=train_inpainter` from photos to a model that paints; killed, gone on with, and asked for the impossible."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_training import IGNORED, tiny_autoencoder, tiny_unet

from veil.data.folder import folder
from veil.data.known import digest_of, read_people
from veil.errors import InputError
from veil.inpainters.diffusion import DiffusionInpainter
from veil.tasks.fields import cut_fields
from veil.tasks.train_inpainter import train_inpainter
from veil.training.diffusion import new_unet, write_model
from veil.training.masks import draw_masks
from veil.types import Faces

WEIGHTS = "diffusion_pytorch_model.safetensors"

pytestmark = [pytest.mark.filterwarnings(message) for message in (*IGNORED, "ignore:.*tensorboard.*")]


@pytest.fixture
def squares(tmp_path):
    """Ten square photos of two people, all of one colour each."""
    root = tmp_path / "aligned"
    for number in range(10):
        path = root / f"person{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 50), (20 * number, 100, 200)).save(path)
    return root


@pytest.fixture
def settings(small_run, squares, tmp_path):
    """Both stages by the clock, on tiny networks."""
    write_model(tiny_autoencoder(), tiny_unet(), tmp_path / "warm", ["Ada"])
    small = ("size=32", "held_out=3", "diffusion_batch=4", "adversary_batch=2", "adversary_alone=1", "shard=4")
    stages = ("stages=[diffusion]", "minutes=0.02", "adversary_minutes=0.02", "validate_every=5")
    knobs = [f"task.{knob}" for knob in (*small, *stages, f"warm_start={tmp_path / 'warm'}", "aligned=true")]
    return lambda *more: small_run("task=train_inpainter", f"data.root={squares}", *knobs, *more)


def test_both_stages_end_with_a_model_that_paints(settings, capsys, tmp_path):
    place = train_inpainter(settings())
    told = capsys.readouterr().out
    assert "diffusion: batch" in told
    assert "adversary: batch" in told
    crops = torch.rand(2, 3, 256, 256)
    masks = draw_masks(2, torch.Generator().manual_seed(0))
    paint = DiffusionInpainter(str(place / "model"), scheduler="EulerAncestralDiscreteScheduler", steps=2)
    assert torch.isfinite(paint(Faces(crops, torch.arange(2), torch.arange(2), ("a", "b")), masks)).all()
    known = read_people(tmp_path / "warm")
    assert known == {digest_of("Ada")}
    assert read_people(place / "model") == known | {digest_of("person0"), digest_of("person1")}
    assert str(tmp_path) not in "".join(path.read_text() for path in (place / "model").rglob("*.json"))
    assert list((place / "samples").glob("*.png"))
    before = torch.load(place / "diffusion" / "last.ckpt", weights_only=False)["batches"]
    train_inpainter(settings())  # is done
    assert torch.load(place / "diffusion" / "last.ckpt", weights_only=False)["batches"] == before
    assert len(list(place.glob("adversary-*"))) == 1
    train_inpainter(settings("task.minutes=0.05", "task.schedule=cosine", "task.dtype=bfloat16"))
    assert torch.load(place / "diffusion" / "last.ckpt", weights_only=False)["batches"] > before
    assert len(list(place.glob("adversary-*"))) == 2  # what went on is sharpened anew
    with pytest.raises(InputError, match=r"begun with task\.held_out=3, got 4; give another outputs="):
        train_inpainter(settings("task.held_out=4"))
    assert json.loads((place / "begun.json").read_text())["seed"] == 0


def test_a_run_goes_on_with_the_photos_and_weights_that_it_was_begun_with(settings, squares, tmp_path):
    quick = ("task.minutes=null", "task.diffusion_steps=1", "task.adversary_minutes=0")
    with pytest.raises(InputError, match=r"task\.held_out"):
        train_inpainter(settings(*quick, "task.held_out=10"))
    place = train_inpainter(settings(*quick))  # what could not begin left nothing behind
    fields = np.load(place / "fields.npy")
    (place / "fields.npy").unlink()
    train_inpainter(settings(*quick))  # are cut again
    os.utime(squares / "person1" / "3.png")
    train_inpainter(settings(*quick))  # the same photos
    Image.new("RGB", (50, 50)).save(squares / "person0" / "more.png")
    with pytest.raises(InputError, match=r"begun with photos="):
        train_inpainter(settings(*quick))
    (squares / "person0" / "more.png").unlink()
    (place / "begun.json").unlink()
    with pytest.raises(InputError, match=r"does not say what it was begun with; give another outputs="):
        train_inpainter(settings(*quick))
    shutil.rmtree(place / "diffusion")
    np.save(place / "fields.npy", np.zeros((4, 40, 40, 3), np.uint8))  # of an earlier version
    train_inpainter(settings(*quick))
    assert np.array_equal(np.load(place / "fields.npy"), fields)
    write_model(tiny_autoencoder(), new_unet((16, 16), size=8), tmp_path / "warm")
    with pytest.raises(InputError, match=r"begun with weights="):
        train_inpainter(settings(*quick))


def test_the_adversary_alone(settings, tmp_path):
    place = train_inpainter(settings("task.stages=[]"))
    assert not (place / "diffusion").exists()
    warm, sharp = (load_file(folder / "unet" / WEIGHTS) for folder in (tmp_path / "warm", place / "model"))
    assert warm.keys() == sharp.keys()
    assert not all(torch.equal(value, sharp[name]) for name, value in warm.items())


def test_a_new_unet_in_the_latents_of_a_trained_autoencoder(settings, tmp_path):
    shape = ("task.new_unet=true", "task.channels=[8,32,16]", "task.attention=true", "task.minutes=null")
    place = train_inpainter(settings(*shape, "task.diffusion_steps=1", "task.adversary_minutes=0"))
    unet = json.loads((place / "model" / "unet" / "config.json").read_text())
    assert unet["down_block_types"] == ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
    assert unet["up_block_types"] == ["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]
    assert (unet["block_out_channels"], unet["attention_head_dim"]) == ([8, 32, 16], [1, 1, 1])
    before, after = (load_file(folder / "vae" / WEIGHTS) for folder in (tmp_path / "warm", place / "model"))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ("minutes=-1", r"task\.minutes must be null .* or above 0, got -1"),
        ("adversary_minutes=-1", r"task\.adversary_minutes must be at least 0, got -1"),
        ("schedule=linear", r"task\.schedule must be one of \('constant', 'cosine'\), got 'linear'"),
        ("dtype=half", r"task\.dtype must be one of"),
        ("reuse=0", r"task\.reuse must be at least 1, got 0"),
        ("size=100", r"task\.size must be px of the field, a multiple of 32, got 100"),
        ("channels=[12,16]", r"task\.channels must be two levels or more, multiples of 8, got \[12, 16\]"),
        ("average=1.0", r"task\.average must be in \[0, 1\), got 1.0"),
        ("stages=[unet]", r"task\.stages must be some of"),
        ("aligned=celeba", r"task\.aligned must be true, null or a list of names, got 'celeba'"),
        ("aligned=[aligned]", r"task\.aligned=\['aligned'\] names roots of data\.root, which must be a list, got '"),
    ],
)
def test_a_value_out_of_range_is_named(settings, knob, message):
    with pytest.raises(InputError, match=message):
        train_inpainter(settings(f"task.{knob}"))


def test_a_cosine_by_the_clock_needs_one_device(settings):
    with pytest.raises(InputError, match=r"task\.minutes needs trainer\.devices=1, got 2; use schedule=constant"):
        train_inpainter(settings("task.schedule=cosine", "trainer.devices=2"))


def test_aligned_photos_beside_photos_whose_faces_are_found(small_run, squares, photos, tmp_path):
    root = tmp_path / "found"
    shutil.copytree(photos / "s1", root / "s1")
    config = small_run(f"data.root=[{root},{squares}]")
    both = folder([str(root), str(squares)])
    cut_fields(config, both, ["aligned"], tmp_path / "fields.npy", 32)
    fields = np.load(tmp_path / "fields.npy")
    assert fields.shape == (15, 40, 40, 3)
    assert fields[5:].std(axis=(1, 2)).max() == 0  # one colour each, in the order of the folder
    assert fields[5:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160, 20, 60, 100, 140, 180]
    assert fields[:5].std(axis=(1, 2, 3)).min() > 20
    with pytest.raises(InputError, match=r"task\.aligned must be true, null or names of roots .* got \['somewhere'\]"):
        cut_fields(config, both, ["somewhere"], tmp_path / "fields.npy", 32)


def test_what_is_no_square_is_no_aligned_photo(small_run, photos, tmp_path):
    one = folder(str(photos))
    with pytest.raises(InputError, match=r"task\.aligned takes square photos, and 's1/1' is 92 x 112 px"):
        cut_fields(small_run(), one, True, tmp_path / "fields.npy", 32)
