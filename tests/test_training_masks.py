"""Masks and variants for the inpainter's training: whole batches have the distribution of masks drawn one by one."""

import pytest
import torch
from scipy.stats import ks_2samp
from torch.nn import functional as F

from veil.training.jitter import ROOM, jitter, middle
from veil.training.masks import SHAPES, boxes, draw_masks, enlarge, highest
from veil.types import view

DRAWS = 500
SIDE = 160  # px of the view


def one_patches(generator):
    axis = torch.linspace(-1, 1, 16)
    log_weight = -number(0.0, 2.0, generator) * (axis[:, None] ** 2 + axis**2)
    gumbel = -torch.rand(16, 16, generator=generator).clamp_min(1e-9).log().neg().log()
    return one_highest(log_weight + gumbel, number(0.05, 0.95, generator))


def one_blobs(generator):
    coarse = int(number(3.0, 9.0, generator))
    noise = torch.randn(1, 1, coarse, coarse, generator=generator)
    fine = 16 if number(0.0, 1.0, generator) < 0.7 else SIDE
    scores = F.interpolate(noise, (fine, fine), mode="bicubic", align_corners=False)[0, 0]
    return one_highest(scores, number(0.05, 0.95, generator))


def one_boxes(generator):
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for _ in range(int(number(1.0, 4.0, generator))):
        height, width = (round(SIDE * number(0.2, 0.8, generator)) for _ in range(2))
        top, left = (int(number(0.0, SIDE - length + 1.0, generator)) for length in (height, width))
        mask[top : top + height, left : left + width] = True
    return mask


def one_face(generator):
    if number(0.0, 1.0, generator) < 0.5:
        return torch.ones(SIDE, SIDE, dtype=torch.bool)
    axis = torch.linspace(-1, 1, SIDE)
    across, down = number(0.6, 0.95, generator), number(0.75, 1.0, generator)
    return (axis[:, None] / down) ** 2 + (axis / across) ** 2 <= 1


def one_highest(scores, ratio):
    chosen = scores.flatten().topk(max(1, round(ratio * scores.numel()))).indices
    flat = torch.zeros(scores.numel()).scatter(0, chosen, 1.0)
    return F.interpolate(flat.view(1, 1, *scores.shape), (SIDE, SIDE))[0, 0].bool()


def number(low, high, generator):
    return low + (high - low) * torch.rand((), generator=generator).item()


ONE_BY_ONE = {"patches": one_patches, "blobs": one_blobs, "boxes": one_boxes, "face": one_face}


def borders(masks):
    """Pixels at which a mask begins or ends."""
    return masks.diff(dim=1).ne(0).sum((1, 2)) + masks.diff(dim=2).ne(0).sum((1, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_drawn_together_are_distributed_as_masks_drawn_one_by_one(shape):
    generator = torch.Generator().manual_seed(0)
    singly = torch.stack([ONE_BY_ONE[shape](generator) for _ in range(DRAWS)]).float()
    together = view(draw_masks(DRAWS, torch.Generator().manual_seed(1), {shape: 1.0}))[:, 0].float()
    for figure in (lambda masks: masks.mean((1, 2)), borders):
        assert ks_2samp(figure(singly).numpy(), figure(together).numpy()).pvalue > 0.01
    maps = [F.adaptive_avg_pool2d(masks.mean(0)[None, None], 8)[0, 0] for masks in (singly, together)]
    deviation = singly.flatten(1).std(dim=0).max() * (2 / DRAWS) ** 0.5  # of a place's mean, of the difference
    assert (maps[0] - maps[1]).abs().max() < 4 * deviation


def test_shapes_come_as_often_as_is_asked():
    full = draw_masks(400, torch.Generator().manual_seed(0), {"face": 1.0, "boxes": 1.0})
    whole = view(full).all(dim=(1, 2, 3)).float().mean()
    assert whole == pytest.approx(0.25, abs=0.06)  # half are faces, half of these the whole view
    full = draw_masks(400, torch.Generator().manual_seed(0), {"patches": 1, "face": 3})
    whole = view(full).all(dim=(1, 2, 3)).float().mean()
    assert whole == pytest.approx(0.375, abs=0.06)  # three quarters are faces
    assert sum(SHAPES.values()) == pytest.approx(1)


def test_each_has_exactly_its_own_ratio_of_highest_scores():
    scores = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    chosen = highest(scores, torch.tensor([0.0, 0.25, 1.0]))
    assert chosen.sum((1, 2)).tolist() == [1, 64, 256]
    assert scores[1][chosen[1]].min() > scores[1][~chosen[1]].max()
    assert torch.equal(enlarge(chosen, 32)[:, ::2, ::2], chosen)


def test_boxes_are_whole_and_may_touch_every_edge():
    masks = boxes(600, 20, torch.Generator().manual_seed(0))
    assert masks[:, 0].any()
    assert masks[:, -1].any()
    assert masks[:, :, 0].any()
    assert masks[:, :, -1].any()
    assert masks.sum((1, 2)).min() >= 16


def smooth(count, side=40):
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(count, 3, 5, 5, generator=generator)
    images = F.interpolate(small, side, mode="bicubic", align_corners=False).clamp(0, 1)
    return images.mul(255).round().byte().permute(0, 2, 3, 1)


def test_the_middle_is_four_fifths():
    pictures = torch.arange(100, dtype=torch.uint8).view(1, 10, 10, 1).expand(1, 10, 10, 3)
    assert ROOM == 1.25
    torch.testing.assert_close(middle(pictures)[0, 0], pictures[0, 1:9, 1:9, 0] / 255)


def test_variants_keep_the_field_on_average_and_are_drawn_from_their_generator():
    pictures = smooth(1).expand(1500, -1, -1, -1)
    variants = jitter(pictures, torch.Generator().manual_seed(0))
    assert variants.shape == (1500, 3, 32, 32)
    assert variants.min() >= 0
    assert variants.max() <= 1
    grey = variants.diff(dim=1).abs().amax((1, 2, 3)) < 1e-5
    assert grey.float().mean() == pytest.approx(0.25, abs=0.03)
    field = middle(pictures[:1])
    both = (field + field.flip(-1)) / 2  # half are flipped
    assert F.l1_loss(variants.mean(0), both.mean(1, keepdim=True).expand_as(both)[0]) < 0.12
    assert torch.equal(variants[:9], jitter(pictures, torch.Generator().manual_seed(0))[:9])
    assert not torch.equal(variants[0], variants[1])


def test_a_fifth_of_the_variants_end_close_to_the_face():
    """In a photo of stripes, repeated edges are where the stripes end."""
    stripes = torch.arange(40) % 2 * 255
    pictures = stripes.byte().view(1, 1, 40, 1).expand(1500, 40, 40, 3)
    variants = jitter(pictures, torch.Generator().manual_seed(0))[:, 0]
    left, right = variants[:, 14:18, :2], variants[:, 14:18, -2:]
    flat = [part.diff(dim=-1).abs().amax((1, 2)) < 1e-4 for part in (left, right)]
    share = (flat[0] | flat[1]).float().mean()
    seen = 0.5 * (0.725 - 0.55) / 0.25  # a side is cut, and before its last but one pixel
    assert share == pytest.approx(0.2 * (1 - (1 - seen) ** 2), abs=0.03)
