"""What is masked, painted and written; an inpainter that should draw anew and does not is noticed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from veil.anonymization.anonymized_set import Role, Writer
from veil.anonymization.anonymizer import Anonymizer, Masking
from veil.data.faces import FaceSet
from veil.errors import InputError
from veil.faces.pictures import as_saved, read_pixels, to_pixels
from veil.recognizers.whitebox import WhiteBox
from veil.storage.folders import RunFolder
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


def test_paint_that_is_not_finite_is_an_error_and_no_black_face(faces: Faces, recognizer: WhiteBox) -> None:
    module = Anonymizer(
        lambda faces, _: torch.ones(len(faces.keys), 4, 4),
        Painter(True, lambda seed: torch.nan if seed == 33 else 0.5),
        recognizer,
        Masking(0.25, 4),
        image_format="png",
        write=lambda *_: pytest.fail("written"),
        stages=Stages(),
    )
    with pytest.raises(InputError, match=r"NaN or infinity in the paint of 1 of 4 faces \(c first\)"):
        module.step(faces)


def test_a_jpeg_is_compressed_once(faces: Faces, recognizer: WhiteBox, tmp_path: Path) -> None:
    crops = FaceSet([], list(faces.keys), faces.identities.tolist(), [0, 1, 2, 3], seed=0)
    role = Role(RunFolder(str(tmp_path), Path("probes"), {}))
    module = Anonymizer(
        lambda faces, _: torch.rand(len(faces.keys), 4, 4),
        Painter(True, lambda seed: seed % 2),
        recognizer,
        Masking(0.25, 4),
        image_format="jpg",
        write=Writer(role, crops, list("abcde"), "jpg"),
        stages=Stages(),
    )
    torch.manual_seed(0)
    module.step(faces)
    role.finish()
    torch.manual_seed(0)
    expected = as_saved(module(faces)[0], "jpg")
    for row, picture in zip(role.rows(), expected, strict=True):
        assert np.array_equal(read_pixels(role.path / row["result"]), to_pixels(picture[None])[0])


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
