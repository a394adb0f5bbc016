"""Maskers that only ask: no gradients, bounded memory, and a recogniser that only returns scores is enough."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import Occlusion
from torch import nn

from veil.errors import InputError
from veil.maskers import perturbation
from veil.maskers.perturbation import occlusion, rise
from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, view


class OnlyScores(nn.Module):
    """A service: says how alike a face and a person are, and nothing else. Counts what it is shown."""

    def __init__(self, whitebox: WhiteBox) -> None:
        super().__init__()
        self.whitebox, self.asked = whitebox, list[int]()

    def similarity(self, images: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(images))
        return torch.from_numpy(self.whitebox.similarity(images, identities).detach().cpu().numpy().copy())


MASKERS = pytest.mark.parametrize("masker", [occlusion, rise])


@MASKERS
def test_scores_are_enough(masker: Callable[..., Any], faces: Faces, recognizer: WhiteBox) -> None:
    service = OnlyScores(recognizer)
    with torch.enable_grad():
        assert torch.equal(masker(faces, service), masker(faces, recognizer))
    assert max(service.asked) <= perturbation.CHUNK
    assert sum(service.asked) == 4 * {occlusion: 100, rise: 256}[masker]


@MASKERS
def test_a_face_is_scored_the_same_to_the_bit_in_any_batch(
    masker: Callable[..., Any], faces: Faces, recognizer: WhiteBox
) -> None:
    backwards = Faces(faces.images.flip(0), faces.identities.flip(0), faces.seeds.flip(0), faces.keys[::-1])
    assert torch.equal(masker(faces, recognizer), masker(backwards, recognizer).flip(0))


def test_occlusion_equals_captum_where_patches_do_not_overlap(faces: Faces, recognizer: WhiteBox) -> None:
    window = (3, 4, 4)  # the view of 40 px starts at 12: captum's windows over the crop hit the same squares
    expected = Occlusion(recognizer.similarity).attribute(
        faces.images, window, strides=window, baselines=0.5, additional_forward_args=(faces.identities,)
    )
    # captum: how much the cosine falls; here: the cosine itself, negated
    clear = recognizer.similarity(faces.images, faces.identities)[:, None, None]
    found = occlusion(faces, recognizer, grid=10, patch=0.1) + clear
    torch.testing.assert_close(found, view(expected)[:, 0, ::4, ::4], rtol=1e-4, atol=1e-6)


def test_an_overlapping_patch_hides_its_share_of_the_view() -> None:
    seen = []

    class Watcher(nn.Module):
        def similarity(self, images: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
            seen.append(view(images) == 0.5)
            return torch.zeros(len(images))

    faces = Faces(torch.zeros(1, 3, 256, 256), torch.tensor([0]), torch.tensor([0]), ("a",))
    occlusion(faces, Watcher(), grid=10, patch=0.2)
    hidden = torch.cat(seen)[:, 0]
    assert hidden[0].sum() == 24 * 24  # a corner: the patch reaches over the edge
    assert hidden[55].sum() == 32 * 32
    assert hidden[55, 72:104, 72:104].all()


def test_rise_is_the_mean_score_of_the_masks_that_show_a_pixel() -> None:
    class Corner(nn.Module):
        def similarity(self, images: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
            shown.append(1 - view(images)[:, 0] / 0.5)  # a black face, on which grey hides
            return shown[-1][:, 0, 0]

    shown: list[torch.Tensor] = []
    faces = Faces(torch.zeros(1, 3, 64, 64), torch.tensor([0]), torch.tensor([5]), ("a",))
    scores = rise(faces, Corner(), masks=3000, grid=5, visible=0.3)
    masks = torch.cat(shown)
    expected = torch.einsum("n,nhw->hw", masks[:, 0, 0], masks) / masks.sum(dim=0)
    torch.testing.assert_close(scores[0], expected, rtol=1e-4, atol=1e-5)
    assert abs(masks.mean() - 0.3) < 0.01
    assert masks.amin() >= 0
    assert scores[0, 0, 0] == scores.max()
    assert scores[0, 20:, 20:].std() < 0.02  # far away it is chance


@pytest.mark.parametrize(
    ("masker", "knobs", "message"),
    [
        (occlusion, {"grid": 0}, r"masker.grid must be at least 1, got 0"),
        (occlusion, {"patch": 32.0}, r"masker.patch is a share .* in \(0, 1\], got 32"),
        (occlusion, {"fill": 128.0}, r"masker.fill is a grey in \[0, 1\], got 128"),
        (rise, {"masks": 0}, r"masker.masks .* at least 1, got masks=0"),
        (rise, {"visible": 1.0}, r"masker.visible is a chance in \(0, 1\), got 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(
    masker: Callable[..., Any], knobs: dict[str, Any], message: str, faces: Faces, recognizer: WhiteBox
) -> None:
    with pytest.raises(InputError, match=message):
        masker(faces, recognizer, **knobs)
