"""The contract of every masker in conf/masker, present and future, and what each must find."""

import inspect
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CONF, compose_config, one
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

from veil.data.faces import FaceSet
from veil.errors import InputError
from veil.faces.pictures import save
from veil.maskers.budget import budget
from veil.maskers.perturbation import occlusion, rise
from veil.maskers.protect import protected
from veil.maskers.random import random_patches
from veil.recognizers.whitebox import WhiteBox
from veil.storage.networks import weights_of
from veil.types import Faces, Images, Masks, Scores, view

Masker = Callable[[Faces, WhiteBox], Scores]


@cache
def settings(name: str) -> dict[str, Any]:
    return compose_config(f"masker={name}", "cells=10").masker


def make(name: str, **knobs: Any) -> Masker:
    """As a run makes it; one that tries its masks out gets a quick inpainter."""
    masker = instantiate({**settings(name), **knobs})
    given = {"repaint": grey, "others": strangers}
    taken = inspect.signature(masker).parameters
    return partial(masker, **{argument: value for argument, value in given.items() if argument in taken})


@cache
def strangers() -> FaceSet:
    """Clear photos of people whom nobody evaluates."""
    folder = Path(tempfile.mkdtemp())
    files = [folder / f"{number}.png" for number in range(6)]
    for number, file in enumerate(files):
        save(np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8), file)
    return FaceSet(files, [file.stem for file in files], [0, 0, 1, 1, 2, 2], list(range(6)), seed=0)


def grey(faces: Faces, masks: Masks) -> Images:
    return torch.where(masks, 0.5, faces.images)


@pytest.fixture(params=sorted(CONF.glob("masker/*.yaml")), ids=lambda path: path.stem)
def masker(request: pytest.FixtureRequest) -> Masker:
    path: Path = request.param
    return make(path.stem)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.75, 1.0])
@pytest.mark.parametrize("cells", [10, None])
def test_mask_covers_exactly_the_ratio_of_the_view(
    masker: Masker, faces: Faces, recognizer: WhiteBox, ratio: float, cells: int | None
) -> None:
    masks = budget(masker(faces, recognizer), ratio, cells, (64, 64))
    total = (cells or 40) ** 2
    assert view(masks).double().mean(dim=(1, 2, 3)).tolist() == pytest.approx([round(ratio * total) / total] * 4)
    assert masks.sum() == view(masks).sum()  # the context is never masked


@pytest.mark.parametrize("cells", [10, None])
def test_what_is_kept_is_not_touched_and_the_area_is_the_same(
    masker: Masker, faces: Faces, recognizer: WhiteBox, cells: int | None
) -> None:
    kept = protected(faces.images, ["mouth", [0.0, 0.0, 0.25, 1.0]])
    masks = budget(masker(faces, recognizer), 0.4, cells, (64, 64), kept)
    assert (kept & masks).sum() == 0
    assert view(masks).double().mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.4] * 4)


def test_each_face_is_scored_alone(masker: Masker, faces: Faces, recognizer: WhiteBox) -> None:
    together = masker(faces, recognizer)
    for index in range(4):
        torch.testing.assert_close(together[index : index + 1], masker(one(faces, index), recognizer))


def test_scores_are_the_same_again(masker: Masker, faces: Faces, recognizer: WhiteBox) -> None:
    torch.manual_seed(1)
    first = masker(faces, recognizer)
    torch.manual_seed(2)
    assert torch.equal(first, masker(faces, recognizer))
    assert first.isfinite().all()
    assert not first.requires_grad


def test_recognizer_is_left_as_it_was(masker: Masker, faces: Faces, recognizer: WhiteBox) -> None:
    before = weights_of(recognizer)
    modes = [module.training for module in recognizer.modules()]
    hooks = [len(module._forward_hooks) for module in recognizer.modules()]
    masker(faces, recognizer)
    assert weights_of(recognizer) == before
    assert [module.training for module in recognizer.modules()] == modes
    assert [len(module._forward_hooks) for module in recognizer.modules()] == hooks
    assert all(parameter.grad is None for parameter in recognizer.parameters())


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (256, 256)])
def test_any_size(masker: Masker, recognizer: WhiteBox, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    faces = Faces(images, torch.tensor([0, 1]), torch.tensor([1, 2]), ("a", "b"))
    assert budget(masker(faces, recognizer), 0.5, 10, size).shape == (2, 1, *size)


def test_works_where_gradients_are_off(masker: Masker, faces: Faces, recognizer: WhiteBox) -> None:
    with torch.no_grad():
        inside = masker(faces, recognizer)
    torch.testing.assert_close(inside, masker(faces, recognizer))


def test_mixed_precision_masks_much_the_same(masker: Masker, faces: Faces, recognizer: WhiteBox) -> None:
    exact = masker(faces, recognizer)
    recognizer.mixed = True
    quick = masker(faces, recognizer)
    assert quick.dtype == torch.float32
    first, second = (budget(scores, 0.25, 10, (64, 64)) for scores in (exact, quick))
    assert (first & second).sum() / (first | second).sum() > 0.8


class Planted(nn.Module):
    """A network to which one square of the view, rows 8-16 and columns 20-28, gives the person away."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential()
        self.network.add_module("repeat_2", nn.AvgPool2d(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        evidence = self.network(view(images)).mean(dim=1)[:, 2:4, 5:7].mean(dim=(1, 2))
        return F.normalize(torch.stack([evidence, torch.ones_like(evidence)], dim=1), dim=1)


LOOKING = {  # every masker that claims to look, in each of its ways
    "saliency": {},
    "saliency cosine": {"objective": "cosine", "reduction": "l2"},
    "saliency smooth": {"draws": 4, "noise": 0.1, "times_input": True},
    "integrated_gradients": {"blur": 0.0},
    "gradcam": {},
    "gradcam ++": {"weighting": "gradcam++"},
    "gradcam layer": {"weighting": "layercam"},
    "occlusion": {},
    "rise": {"masks": 2000},
    "ensemble": {"maskers": {"saliency": make("saliency"), "occlusion": make("occlusion")}},
    "search": {"ratio": 4 / 100, "starts": {"t_zone": make("t_zone")}},
}
BLIND = {"random", "landmarks", "whole_face", "t_zone", "blobs", "shuffled", "mean_map"}


def test_every_masker_says_whether_it_looks() -> None:
    assert {path.stem for path in CONF.glob("masker/*.yaml")} == BLIND | {name.split()[0] for name in LOOKING}


@pytest.fixture
def planted() -> tuple[Faces, WhiteBox]:
    """Three faces whose planted square is bright, and who looks at nothing else."""
    head = nn.Linear(2, 2)
    head.weight.data, head.bias.data = torch.eye(2), torch.zeros(2)
    images = 0.1 * torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    view(images)[..., 8:16, 20:28] += 0.8
    faces = Faces(images, torch.zeros(3).long(), torch.arange(3), ("a", "b", "c"))
    return faces, WhiteBox(Planted(), head, torch.eye(2))


@pytest.mark.parametrize("name", LOOKING)
def test_a_planted_patch_is_found(name: str, planted: tuple[Faces, WhiteBox]) -> None:
    masker = make(name.split()[0], **LOOKING[name])
    found = view(budget(masker(*planted), 4 / 100, 10, (64, 64)))
    assert found[:, 0, 8:16, 20:28].all()


def test_rise_converges_to_the_occlusion_map(planted: tuple[Faces, WhiteBox]) -> None:
    expected = F.interpolate(occlusion(*planted, grid=10, patch=0.2)[:, None], 40, mode="bilinear").flatten(1)
    likeness = []
    for masks in (50, 4000):
        scores = rise(*planted, masks=masks, grid=7).flatten(1)
        pairs = torch.stack([scores, expected], dim=1)
        likeness.append(torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]))
    assert (likeness[0] < likeness[1]).all()
    assert (likeness[1] > 0.9).all()


def test_random_patches_favours_the_centre_but_spares_no_cell(recognizer: WhiteBox) -> None:
    faces = Faces(torch.zeros(2000, 3, 32, 32), torch.zeros(2000).long(), torch.arange(2000), ("a",) * 2000)
    masks = budget(random_patches(faces, recognizer, cells=10, centre_bias=1.0), 0.25, 10, (32, 32))
    chosen = view(masks).float().mean(dim=0)[0, ::2, ::2]
    assert chosen[4:6, 4:6].mean() > 3 * chosen[::9, ::9].mean() > 0
    assert len({mask.numpy().tobytes() for mask in masks[:100]}) == 100  # every face its own


def test_random_patches_without_bias_is_uniform(recognizer: WhiteBox) -> None:
    faces = Faces(torch.zeros(4000, 3, 32, 32), torch.zeros(4000).long(), torch.arange(4000), ("a",) * 4000)
    masks = budget(random_patches(faces, recognizer, cells=10, centre_bias=0.0), 0.25, 10, (32, 32))
    chosen = view(masks).double().mean(dim=0)[0, ::2, ::2]
    assert (chosen - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5


def test_random_patches_refuses_a_negative_bias(faces: Faces, recognizer: WhiteBox) -> None:
    with pytest.raises(InputError, match=r"masker.centre_bias must be at least 0, got -1"):
        random_patches(faces, recognizer, cells=10, centre_bias=-1.0)


def test_budget_takes_the_cells_with_the_highest_mean() -> None:
    scores = torch.zeros(1, 4, 4)
    scores[0, :2, 2:] = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    scores[0, 3, 0] = 3.5  # a single high pixel, in a cell of lower mean
    masks = view(budget(scores, 0.25, 2, (16, 16)))
    assert masks.shape[-2:] == (10, 10)
    assert masks[0, 0, :5, 5:].all()
    assert masks.sum() == 25


def test_budget_breaks_ties_in_reading_order() -> None:
    masks = view(budget(torch.zeros(1, 10, 10), 0.1, 10, (16, 16)))
    assert masks[0, 0, 0].all()
    assert masks.sum() == 10


def test_budget_is_nested() -> None:
    scores = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    smaller, larger = (budget(scores, ratio, 10, (64, 64)) for ratio in (0.2, 0.6))
    assert (smaller <= larger).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_budget_refuses_scores_without_an_order(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        budget(torch.full((1, 4, 4), value), 0.5, 2, (16, 16))


def test_budget_goes_on_to_the_next_best_cells_and_keeps_whole_ones() -> None:
    scores = torch.arange(100, 0, -1.0).view(1, 10, 10)
    kept = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    view(kept)[..., 0, 4] = True  # a corner of the second cell
    masks = view(budget(scores, 0.02, 10, (64, 64), kept))
    assert masks[0, 0, :4, :4].all()
    assert masks[0, 0, :4, 8:12].all()
    assert masks.sum() == 32


def test_budget_names_ratio_and_protect_where_there_is_no_room() -> None:
    kept = protected(torch.zeros(1, 3, 64, 64), [[0, 0, 0.5, 1.0]])
    assert view(budget(torch.zeros(1, 4, 4), 0.5, 10, (64, 64), kept)).sum() == 800
    with pytest.raises(
        InputError, match=r"ratio .* protect: at most 0.5 .* protect spares 50 of the 100 cells .* got 0.51"
    ):
        budget(torch.zeros(1, 4, 4), 0.51, 10, (64, 64), kept)
