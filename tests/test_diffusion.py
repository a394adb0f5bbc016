"""`DiffusionInpainter` on a tiny pipeline of Stable Diffusion's own classes, and the masks it is trained on."""

import logging

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch.nn import functional as F

from veil.inpainters.composite import cover, match_border, paste_back, resize
from veil.inpainters.diffusion import DiffusionInpainter, VaeRoundTrip
from veil.training.masks import SHAPES, draw_masks
from veil.types import Faces, view

STEPS = 3

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy"
)  # diffusers' schedulers


@pytest.fixture(scope="module")
def stable_diffusion(models):
    return models["stable_diffusion"]


@pytest.fixture(scope="module")
def without_text(models):
    return models["without_text"]


@pytest.fixture
def faces():
    images = torch.rand(5, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    return Faces(images, torch.arange(5), torch.tensor([3, -9, 2**62, 3, 0]), tuple("abcde"))


@pytest.fixture
def masks():
    return draw_masks(5, torch.Generator().manual_seed(2))


def calls_of(module, run):
    """How often `run` calls `module`, and with how many pictures."""
    sizes = []
    hook = module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    run()
    hook.remove()
    return sizes


@pytest.mark.parametrize("model", ["stable_diffusion", "without_text"])
def test_only_the_mask_changes(model, faces, masks, request):
    painted = DiffusionInpainter(request.getfixturevalue(model), steps=STEPS)(faces, masks)
    inside = masks.expand_as(painted)
    assert torch.equal(painted[~inside], faces.images[~inside])
    assert (painted != faces.images)[inside].float().mean() > 0.95
    assert painted.min() >= 0
    assert painted.max() <= 1


def test_without_paste_back_the_field_is_the_models_own(without_text, faces, masks):
    painted = DiffusionInpainter(without_text, steps=STEPS, paste_back=False)(faces, masks)
    changed = (painted != faces.images).any(dim=1)
    assert changed[:, 32:224, 32:224].float().mean() > 0.99
    changed[:, 32:224, 32:224] = False
    assert not changed.any()


def test_each_face_has_its_own_noise_whatever_the_batch(without_text, faces, masks):
    together = DiffusionInpainter(without_text, steps=STEPS, batch_size=5)(faces, masks)
    apart = DiffusionInpainter(without_text, steps=STEPS, batch_size=2)
    torch.testing.assert_close(apart(faces, masks), together, atol=1e-4, rtol=0)
    last = Faces(faces.images[3:4], faces.identities[3:4], faces.seeds[3:4], faces.keys[3:4])
    torch.testing.assert_close(apart(last, masks[3:4]), together[3:4], atol=1e-4, rtol=0)


def test_the_seed_decides(without_text, faces, masks):
    inpainter = DiffusionInpainter(without_text, steps=STEPS)
    same = Faces(faces.images[:1].repeat(3, 1, 1, 1), torch.zeros(3).long(), torch.tensor([1, 1, 2]), tuple("abc"))
    first, again, other = inpainter(same, masks[:1].repeat(3, 1, 1, 1))
    torch.testing.assert_close(first, again, atol=1e-4, rtol=0)
    assert (first - other).abs().max() > 0.01


@pytest.mark.parametrize(
    ("guidance", "prompt", "passes"), [(1.0, "a face", 1), (7.5, "", 1), (0.0, "", 1), (7.5, "a face", 2)]
)
def test_no_second_pass_where_guidance_changes_nothing(stable_diffusion, faces, masks, guidance, prompt, passes):
    inpainter = DiffusionInpainter(stable_diffusion, steps=STEPS, guidance=guidance, prompt=prompt)
    assert calls_of(inpainter.pipeline.unet, lambda: inpainter(faces, masks)) == [passes * 5] * STEPS


def test_the_prompt_is_encoded_once(stable_diffusion, faces, masks):
    inpainter = DiffusionInpainter(stable_diffusion, steps=STEPS, prompt="a face", guidance=2.0)
    assert calls_of(inpainter.pipeline.text_encoder, lambda: inpainter(faces, masks)) == []


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "LCMScheduler",
        "EulerDiscreteScheduler",
    ],
)
def test_scheduler_is_chosen_by_name(without_text, faces, masks, name):
    inpainter = DiffusionInpainter(without_text, scheduler=name, scheduler_options={"beta_end": 0.015}, steps=STEPS)
    assert type(inpainter.pipeline.scheduler).__name__ == name
    assert inpainter.pipeline.scheduler.config.beta_end == 0.015
    assert calls_of(inpainter.pipeline.unet, lambda: inpainter(faces, masks)) == [5] * STEPS


def test_strength_leaves_out_the_first_steps(without_text, faces, masks):
    inpainter = DiffusionInpainter(without_text, steps=4, strength=0.5)
    assert len(calls_of(inpainter.pipeline.unet, lambda: inpainter(faces, masks))) == 2


@pytest.mark.parametrize(
    "wrong", [{"scheduler": "Nope"}, {"field": 2.0}, {"strength": 0.0}, {"strength": 0.1, "steps": 4}]
)
def test_a_wrong_knob_is_named(without_text, wrong):
    with pytest.raises(ValueError, match=f"inpainter.{next(iter(wrong))}"):
        DiffusionInpainter(without_text, **wrong)


def test_a_missing_model_says_what_to_do(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("veil.inpainters.pipeline.model_info", unreachable)
    with pytest.raises(FileNotFoundError, match=r"nobody/nothing.*cache.*inpainter=face_diffusion"):
        DiffusionInpainter("nobody/nothing")


def test_out_of_memory_halves_the_batch_and_goes_on(without_text, faces, masks, monkeypatch, caplog):
    inpainter = DiffusionInpainter(without_text, steps=STEPS, batch_size=4)
    expected = inpainter(faces, masks)
    repaint = inpainter._repaint

    def small_memory(fields, *rest):
        if len(fields) > 1:
            raise torch.OutOfMemoryError
        return repaint(fields, *rest)

    monkeypatch.setattr(inpainter, "_repaint", small_memory)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(inpainter(faces, masks), expected, atol=1e-4, rtol=0)
    assert [record.args for record in caplog.records] == [(2,), (1,)]


def test_round_trip_never_denoises(without_text, faces, masks):
    control = VaeRoundTrip(without_text, paste_back=False)
    assert calls_of(control.pipeline.unet, lambda: control(faces, masks)) == []
    torch.testing.assert_close(control(faces, masks), control(faces, ~masks))


def test_loading_and_painting_say_nothing(stable_diffusion, faces, masks, capfd, recwarn):
    DiffusionInpainter(stable_diffusion, steps=STEPS)(faces, masks)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize("side", [32, 128, 192, 512])
def test_every_masked_pixel_is_masked_at_the_models_resolution(side):
    masks = draw_masks(8, torch.Generator().manual_seed(3))
    inside = cover(masks, side)
    revealed = resize(torch.where(masks, 1.0, 0.0).repeat(1, 3, 1, 1), side)[:, :1] * (1 - inside)
    assert inside.mean() >= masks.float().mean() - 1e-6
    assert not cover(revealed > 0.999, side).any()
    for top, left in ((0, 0), (7, 130), (255, 255)):
        one = torch.zeros(1, 1, 256, 256, dtype=torch.bool)
        one[..., top, left] = True
        assert cover(one, side)[..., top * side // 256, left * side // 256] == 1


def test_feather_stays_inside_the_mask():
    original, painted = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    masks = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    masks[..., 8:24, 8:24] = True
    result = paste_back(original, painted, masks, feather=3.0)
    assert not result[~masks.expand_as(result)].any()
    row = result[0, 0, 16]
    assert row[12:20].eq(1).all()
    assert (row[8:12].diff() > 0).all()


def test_training_masks_stay_in_the_view_and_span_the_ratios():
    masks = draw_masks(600, torch.Generator().manual_seed(4))
    ratios = view(masks).float().mean(dim=(1, 2, 3))
    assert torch.equal(view(masks).sum(dim=(1, 2, 3)), masks.sum(dim=(1, 2, 3)))
    assert ratios.min() >= 0.04
    assert ratios.max() == 1  # the whole face is one of the shapes
    assert ratios.std() > 0.2
    assert 0.4 < ratios.median() < 0.7
    assert (ratios == 1).float().mean() == pytest.approx(SHAPES["face"] / 2, abs=0.05)


def test_training_masks_are_drawn_from_their_generator_alone():
    torch.manual_seed(0)
    first = draw_masks(20, torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    assert torch.equal(first, draw_masks(20, torch.Generator().manual_seed(5)))
    assert len({mask.numpy().tobytes() for mask in first}) > 15


def test_a_colour_cast_inside_the_mask_is_taken_away_at_its_border():
    photo = torch.linspace(0.2, 0.6, 64).expand(2, 3, 64, 64).contiguous()
    masks = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    masks[0, :, 20:44, 20:44] = True
    masks[1, :, ::8, ::8] = True
    cast = photo + torch.tensor([0.1, -0.1, 0.05]).view(3, 1, 1)
    torch.testing.assert_close(
        match_border(photo, cast, masks)[masks.expand_as(photo)], photo[masks.expand_as(photo)], atol=1e-5, rtol=0
    )


def test_matching_the_border_reads_no_masked_pixel(masks):
    generator = torch.Generator().manual_seed(6)
    original, painted = torch.rand(2, 5, 3, 256, 256, generator=generator)
    other = torch.where(masks, torch.rand(5, 3, 256, 256, generator=generator), original)
    assert torch.equal(match_border(original, painted, masks), match_border(other, painted, masks))
    nothing, everything = torch.zeros_like(masks), torch.ones_like(masks)
    assert torch.equal(match_border(original, painted, nothing), painted)
    assert torch.equal(match_border(original, painted, everything), painted)


@pytest.mark.parametrize("shape", ["patches", "square"])
def test_the_shift_at_the_border_is_harmonic_inside(shape):
    """Against a direct solution of Laplace's equation."""
    generator = torch.Generator().manual_seed(7)
    size = 64
    masks = torch.zeros(1, 1, size, size, dtype=torch.bool)
    if shape == "square":
        masks[..., 12:52, 12:52] = True
    else:
        masks[..., 8:56, 8:56] = F.interpolate(torch.rand(1, 1, 12, 12, generator=generator), 48) < 0.5
    shift = F.interpolate(torch.rand(1, 3, 5, 5, generator=generator) - 0.5, size, mode="bicubic") / 3
    original = torch.full((1, 3, size, size), 0.5)
    inside = masks[0, 0].numpy()
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(inside.sum())
    matrix, known = lil_matrix((inside.sum(), inside.sum())), np.zeros((inside.sum(), 3))
    for row, column in np.argwhere(inside):
        equation = number[row, column]
        matrix[equation, equation] = 4
        for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if inside[y, x]:
                matrix[equation, number[y, x]] = -1
            else:
                known[equation] += shift[0, :, y, x].numpy()
    exact = spsolve(matrix.tocsr(), known)
    for sweeps, mean, largest in ((8, 0.03, 0.1), (400, 0.002, 0.01)):  # as shares of the shift's spread
        membrane = match_border(original, original - shift, masks, sweeps=sweeps) - (original - shift)
        error = np.abs(membrane[0].permute(1, 2, 0).numpy()[inside] - exact) / np.ptp(exact)
        assert error.mean() < mean
        assert error.max() < largest
