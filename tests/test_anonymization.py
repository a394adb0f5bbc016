"""An inpainter that should draw anew and does not is noticed."""

from collections.abc import Callable

import pytest
import torch

from veil.anonymization.anonymizer import Anonymizer, Masking
from veil.recognizers.whitebox import WhiteBox
from veil.storage.progress import Stages
from veil.types import Faces, Images, Masks, view


class Painter:
    """One colour inside the mask: the seed's, or always the same."""

    def __init__(self, stochastic: bool, colour: Callable[[int], float]) -> None:
        self.stochastic, self.colour = stochastic, colour

    def __call__(self, faces: Faces, masks: Masks) -> Images:
        colours = torch.tensor([self.colour(seed) for seed in faces.seeds.tolist()])[:, None, None, None]
        return torch.where(masks, colours, faces.images)


def test_no_mask_touches_what_is_spared(faces: Faces, recognizer: WhiteBox) -> None:
    module = Anonymizer(
        lambda faces, _: torch.ones(len(faces.keys), 4, 4),
        Painter(False, lambda _: 0.0),
        recognizer,
        Masking(0.25, 4, protect=[[0.0, 0.0, 1.0, 0.5], [0.0, 0.5, 0.25, 0.6]]),
        image_format="png",
        write=lambda *_: None,
        stages=Stages(),
    )
    _, masks = module(faces)
    assert masks.sum() == 4 * 400
    assert view(masks)[..., 20:30, 10:].all()  # the third row of cells but its first, then the next in reading order
    assert view(masks)[..., 30:, :10].all()


@pytest.mark.parametrize(
    ("stochastic", "colour", "repeats"),
    [(True, lambda seed: seed % 2, False), (True, lambda _: 0.5, True), (False, lambda _: 0.5, False)],
    ids=["draws", "should draw", "need not draw"],
)
def test_the_same_face_for_every_seed(
    stochastic: bool, colour: Callable[[int], float], repeats: bool, faces: Faces, recognizer: WhiteBox
) -> None:
    module = Anonymizer(
        lambda faces, _: torch.rand(len(faces.keys), 4, 4),
        Painter(stochastic, colour),
        recognizer,
        Masking(0.25, 4),
        image_format="png",
        write=lambda *_: None,
        stages=Stages(),
    )
    assert module.repeats_itself(faces) is repeats
