"""The contract of every inpainter in conf/inpainter, and each against an independent reference."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import CONF, one
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch.nn import functional as F

from veil.errors import InputError
from veil.inpainters.classical import blur, fill, pixelate, telea
from veil.inpainters.composite import paste_back, with_lone_latents
from veil.types import Faces, Images, Masks, view

Inpainter = Callable[[Faces, Masks], Images]


@pytest.fixture
def masks() -> Masks:
    """A quarter of each view, not the same for any two faces."""
    masks = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    for index in range(4):
        view(masks)[index, 0, 5 * index : 5 * index + 20, 10:30] = True
    return masks


def settings(path: Path, models: dict[str, str]) -> DictConfig:
    """A choice of conf/inpainter; diffusion on a tiny model, as no hub can be reached."""
    config = OmegaConf.load(path)
    parents = [path.with_name(f"{name}.yaml") for name in config.pop("defaults", [])]
    config = OmegaConf.merge(*map(OmegaConf.load, parents), config)
    if "model" in config and not config.model.startswith("package:"):
        tiny = {"model": models["stable_diffusion"], "variant": None, "lora": None, "resolution": None}
        config = OmegaConf.merge(config, tiny, {"steps": 2, "device": "cpu", "guidance": 1.0})
    return config


@pytest.fixture(params=sorted(CONF.glob("inpainter/*.yaml")), ids=lambda path: path.stem)
def chosen(request: pytest.FixtureRequest, models: dict[str, str]) -> DictConfig:
    return settings(request.param, models)


@pytest.fixture
def inpainter(chosen: DictConfig) -> Inpainter:
    return instantiate(chosen)


def test_unmasked_pixels_come_back_bit_identical_unless_asked_otherwise(
    inpainter: Inpainter, chosen: DictConfig, faces: Faces, masks: Masks
) -> None:
    result = inpainter(faces, masks)
    assert result.shape == faces.images.shape
    if not chosen.get("paste_back", True):
        return
    assert torch.equal(result.where(~masks, 0.0), faces.images.where(~masks, 0.0))
    assert 0 <= result.min() <= result.max() <= 1


def test_masked_pixels_change_unless_it_is_none(
    inpainter: Inpainter, faces: Faces, masks: Masks, request: pytest.FixtureRequest
) -> None:
    changed = (inpainter(faces, masks) != faces.images).any(dim=1, keepdim=True)
    share = changed[masks].double().mean()
    assert share == 0 if "none" in request.node.callspec.id else share > 0.9


def test_each_face_is_repainted_alone(inpainter: Inpainter, faces: Faces, masks: Masks) -> None:
    together = inpainter(faces, masks)
    for index in range(4):
        alone = inpainter(one(faces, index), masks[index : index + 1])
        torch.testing.assert_close(alone, together[index : index + 1], atol=1e-4, rtol=1e-4)


def test_the_original_is_not_touched(inpainter: Inpainter, faces: Faces, masks: Masks) -> None:
    before = faces.images.clone()
    inpainter(faces, masks)
    assert torch.equal(faces.images, before)


def test_an_empty_mask_changes_nothing_unless_asked_otherwise(
    inpainter: Inpainter, chosen: DictConfig, faces: Faces, masks: Masks
) -> None:
    result = inpainter(faces, torch.zeros_like(masks))
    assert torch.equal(result, faces.images) == chosen.get("paste_back", True)


def test_a_latent_model_passes_over_no_masked_pixel_and_learns_of_no_other() -> None:
    scattered = torch.zeros(1, 1, 32, 32)
    scattered[..., 5, 6] = scattered[..., 20, 16] = 1  # of latents of 4 px: one is told of neither, one of itself
    masks = with_lone_latents(scattered, 4)
    assert masks[..., 4:8, 4:8].all()
    assert masks.sum() == 17
    assert F.interpolate(masks, (8, 8)).sum() == 2
    square = torch.zeros(1, 1, 32, 32)
    square[..., 3:20, 5:21] = 1  # what models are trained with stays as it is
    assert torch.equal(with_lone_latents(square, 4), square)


def test_telea_refuses_a_radius_that_opencv_would_round(faces: Faces, masks: Masks) -> None:
    with pytest.raises(InputError, match=r"inpainter.radius is in pixels and must be in \[1, 100\], got -1"):
        telea(faces, masks, radius=-1)


def test_telea_is_opencvs(faces: Faces, masks: Masks) -> None:
    pixels = (faces.images[1].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    expected = cv2.inpaint(pixels, masks[1, 0].numpy().astype(np.uint8), 3, cv2.INPAINT_TELEA)
    result = (telea(faces, masks, radius=3.0)[1].permute(1, 2, 0).numpy() * 255).round()
    np.testing.assert_array_equal(result, expected)


def test_fill_is_the_mean_of_what_is_visible(faces: Faces, masks: Masks) -> None:
    result = fill(faces, masks)
    for index in range(4):
        hidden = masks[index, 0].numpy()
        mean = faces.images[index].numpy()[:, ~hidden].mean(axis=1)
        np.testing.assert_allclose(result[index].numpy()[:, hidden], np.tile(mean[:, None], hidden.sum()), atol=1e-6)


def test_blur_equals_opencv(faces: Faces, masks: Masks) -> None:
    picture = faces.images[0].permute(1, 2, 0).numpy()
    expected = cv2.GaussianBlur(picture, (25, 25), 4.0, borderType=cv2.BORDER_REFLECT_101)
    result = blur(faces, masks, sigma=4.0)[0].permute(1, 2, 0).numpy()
    hidden = masks[0, 0].numpy()
    np.testing.assert_allclose(result[hidden], expected[hidden], atol=1e-5)


def test_pixelate_is_the_mean_of_each_block(faces: Faces) -> None:
    everything = torch.ones(4, 1, 64, 64, dtype=torch.bool)
    result = pixelate(faces, everything, block=16).numpy()
    blocks = faces.images.numpy().reshape(4, 3, 4, 16, 4, 16).mean(axis=(3, 5))
    np.testing.assert_allclose(result, blocks.repeat(16, 2).repeat(16, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("inpaint", "message"),
    [
        (lambda faces, masks: blur(faces, masks, sigma=0.0), r"inpainter.sigma .* above 0, got 0"),
        (lambda faces, masks: pixelate(faces, masks, block=65), r"inpainter.block .* in \[1, 64\], got 65"),
    ],
)
def test_knobs_out_of_range_are_named(inpaint: Inpainter, message: str, faces: Faces, masks: Masks) -> None:
    with pytest.raises(InputError, match=message):
        inpaint(faces, masks)


def test_paste_back_keeps_the_range(faces: Faces, masks: Masks) -> None:
    result = paste_back(faces.images, torch.full_like(faces.images, 1.5), masks)
    assert (result.where(masks, 1.0) == 1).all()
