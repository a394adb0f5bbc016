"""The smallest mask that hides a face from the white boxes, against trying every size."""

import numpy as np
import pytest
import torch
from torch import nn

from veil.faces.pictures import as_saved
from veil.maskers.budget import budget
from veil.maskers.minimal import smallest_masks, unknown
from veil.maskers.protect import protected
from veil.metrics.needed import smallest_ratio
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Images, Masks, view


class Brightness(nn.Module):
    """Knows a face by how bright its view is: cosine to (1, 0) rises with it."""

    def forward(self, images: Images) -> torch.Tensor:
        angle = torch.pi / 2 * (1 - view(images).mean(dim=(1, 2, 3)))
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def black(faces: Faces, masks: Masks) -> Images:
    return torch.where(masks, 0.0, faces.images)


def box(threshold: float | None, surrogates: tuple[WhiteBox, ...] = ()) -> WhiteBox:
    return WhiteBox(Brightness(), nn.Identity(), torch.tensor([[1.0, 0.0]] * 5), surrogates, threshold)


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_it_is_the_smallest_of_all_sizes(faces: Faces, ratio: float) -> None:
    whitebox, scores = box(0.5), view(faces.images).mean(dim=1)
    images, masks = smallest_masks(faces, scores, whitebox, black, ratio, 10)
    most = round(ratio * 100)
    for face in range(4):
        part = Faces(*(field[face : face + 1] for field in faces))
        sizes = [budget(scores[face : face + 1], count / 100, 10, (64, 64)) for count in range(1, most + 1)]
        enough = [mask for mask in sizes if unknown(black(part, mask), part.identities, whitebox)]
        expected = enough[0] if enough else sizes[-1]
        assert torch.equal(masks[face : face + 1], expected)
        assert torch.equal(images[face : face + 1], black(part, expected))


def test_what_decides_is_the_face_as_it_will_be_saved(faces: Faces) -> None:
    asked = []

    class Recorder(Brightness):
        def forward(self, images: Images) -> torch.Tensor:
            asked.append(images)
            return super().forward(images)

    def dark(faces: Faces, masks: Masks) -> Images:
        return torch.where(masks, 0.123456, faces.images)  # no multiple of 1 / 255

    whitebox = WhiteBox(Recorder(), nn.Identity(), torch.tensor([[1.0, 0.0]] * 5), (), 0.5)
    for image_format in ("png", "jpg"):
        asked.clear()
        smallest_masks(faces, view(faces.images).mean(dim=1), whitebox, dark, 1.0, 10, None, image_format)
        seen = torch.cat(asked)
        assert torch.equal(seen, (seen * 255).round() / 255)
    assert not torch.equal(as_saved(dark(faces, faces.images[:, :1] > 0.5), "jpg"), as_saved(faces.images, "png"))


def test_every_white_box_must_be_fooled(faces: Faces) -> None:
    strict = box(0.3)
    scores = view(faces.images).mean(dim=1)
    alone = smallest_masks(faces, scores, box(0.5), black, 1.0, 10)[1].sum(dim=(1, 2, 3))
    both = smallest_masks(faces, scores, box(0.5, (strict,)), black, 1.0, 10)[1].sum(dim=(1, 2, 3))
    assert torch.equal(both, smallest_masks(faces, scores, strict, black, 1.0, 10)[1].sum(dim=(1, 2, 3)))
    assert (both > alone).all()


def test_what_is_kept_is_not_masked(faces: Faces) -> None:
    kept = protected(faces.images, [[0.0, 0.0, 1.0, 0.3]])
    masks = smallest_masks(faces, view(faces.images).mean(dim=1), box(0.5), black, 0.7, 10, kept)[1]
    assert not (masks & kept).any()


def test_a_white_box_without_threshold_is_a_mistake(faces: Faces) -> None:
    with pytest.raises(ValueError, match="threshold"):
        smallest_masks(faces, view(faces.images).mean(dim=1), box(None), black, 1.0, 10)


def test_the_smallest_ratio_by_hand() -> None:
    ratios, people = [0.1, 0.2, 0.4], np.array([0, 0, 1, 1])
    accepted = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.08, 0.0], [1.0, 0.08, 0.0]])
    found = smallest_ratio(ratios, accepted, people, limit=0.01)
    assert found is not None
    assert found.value == pytest.approx(0.2 + 0.2 * 0.03 / 0.04)
    assert found.low == pytest.approx(0.1 + 0.1 * 0.99)  # the first person alone
    assert found.high == pytest.approx(0.2 + 0.2 * 0.07 / 0.08)  # the second alone
    assert smallest_ratio(ratios, accepted, people, limit=1.0).value == 0.1
    assert smallest_ratio([0.1, 0.2], accepted[:, :2], people, limit=0.01) is None


def test_its_interval_covers_the_truth() -> None:
    ratios, truth = [0.2, 0.4, 0.6], 0.4  # the expected share falls to the limit of 0.1 at 0.4
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        chance = np.array([0.3, 0.1, 0.02])
        accepted = (rng.random((400, 1)) < chance).astype(float)
        found = smallest_ratio(ratios, accepted, np.arange(400), limit=0.1, resamples=300)
        covered += found is not None and found.low <= truth <= found.high
    assert 0.92 <= covered / 300 <= 0.98
