"""Mask and repaint faces, batch by batch; `anonymization/module.py` is Lightning's form of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from veil.errors import InputError
from veil.faces.pictures import as_saved
from veil.maskers.budget import budget, covered
from veil.maskers.minimal import smallest_masks, unknown
from veil.maskers.protect import Part, protected
from veil.metrics.needed import COLUMNS
from veil.recognizers.whitebox import WhiteBox
from veil.storage.folders import Row
from veil.storage.progress import Stages
from veil.types import Faces, Images, Inpainter, Masks, Scores

Masker = Callable[[Faces, WhiteBox], Scores]
Write = Callable[[Faces, Masks, Images, list[Row]], None]


@dataclass(frozen=True)
class Masking:
    """How much is masked, and where not.

    Args:
        ratio: share of the view, in (0, 1]; with `minimal` the most.
        cells: of the mask's grid; None is single pixels.
        protect: what no mask touches: features by name, and boxes in shares of the view.
        minimal: whether each face has its own smallest ratio (`smallest_masks`).
        raggedness: as `budget`'s.

    """

    ratio: float
    cells: int | None = 16
    protect: Sequence[Part] = ()
    minimal: bool = False
    raggedness: float | None = None


class Anonymizer(nn.Module):
    """Masker, budget and inpainter in a row; `step` hands each batch to `write`.

    Args:
        write: takes the batch's faces, masks, results and a row of what was done to each face.

    """

    def __init__(
        self,
        masker: Masker,
        inpainter: Inpainter,
        whitebox: WhiteBox,
        masking: Masking,
        image_format: str,
        write: Write,
        stages: Stages,
    ) -> None:
        super().__init__()
        self.masker, self.inpainter, self.whitebox, self.masking = masker, inpainter, whitebox, masking
        self.image_format, self.write, self.stages = image_format, write, stages

    def forward(self, faces: Faces) -> tuple[Images, Masks]:
        """Repainted crops, and where they were repainted."""
        ratio, cells, raggedness = self.masking.ratio, self.masking.cells, self.masking.raggedness
        with self.stages.clock("mask"):
            scores = self.masker(faces, self.whitebox)
            height, width = faces.images.shape[-2:]
            spared = protected(faces.images, self.masking.protect) if self.masking.protect else None
            if not self.masking.minimal:
                masks = budget(scores, ratio, cells, (height, width), spared, raggedness)
        with self.stages.clock("inpaint"):
            if self.masking.minimal:
                return smallest_masks(
                    faces,
                    scores,
                    self.whitebox,
                    partial(paint, self.inpainter),
                    ratio,
                    cells,
                    spared,
                    self.image_format,
                )
            return paint(self.inpainter, faces, masks), masks

    @torch.no_grad()
    def repeats_itself(self, faces: Faces) -> bool:
        """Whether an inpainter that should draw each face anew paints the same under every seed."""
        if not getattr(self.inpainter, "stochastic", False):
            return False
        painted, masks = self(faces)
        again = self.inpainter(faces._replace(seeds=faces.seeds + 1), masks)
        return torch.equal(as_saved(painted, "png"), as_saved(again, "png"))

    @torch.no_grad()
    def step(self, faces: Faces) -> tuple[str, ...]:
        """Anonymise, and give the keys of what is done."""
        painted, masks = self(faces)
        rows: list[Row] = [{"requested": self.masking.ratio, "achieved": share} for share in covered(masks).tolist()]
        if self.masking.minimal:
            published = as_saved(painted, self.image_format)
            for row, hidden in zip(rows, unknown(published, faces.identities, self.whitebox), strict=True):
                row |= zip(COLUMNS, (row["achieved"], float(hidden)), strict=True)
        with self.stages.clock("write"):
            self.write(faces, masks, painted, rows)
        return faces.keys


def paint(inpainter: Inpainter, faces: Faces, masks: Masks) -> Images:
    """Repaint the masks.

    Raises InputError for paint that is not finite: it would be saved as a black, and very private, face.
    """
    painted = inpainter(faces, masks)
    broken = ~painted.isfinite().flatten(1).all(dim=1)
    if broken.any():
        keys = [key for key, wrong in zip(faces.keys, broken.tolist(), strict=True) if wrong]
        raise InputError(
            f"inpainter: NaN or infinity in the paint of {len(keys)} of {len(faces.keys)} faces ({keys[0]} first); "
            "half precision may be too short for the model: inpainter.dtype=bfloat16 or float32"
        )
    return painted
