"""Mask, repaint and measure a batch of faces."""

from collections.abc import Callable, Sequence

import pytorch_lightning as pl
import torch

from veil.maskers.budget import budget
from veil.maskers.keep import Part, protected
from veil.maskers.minimal import COLUMNS, smallest_masks, unknown
from veil.panel import Panel
from veil.pictures import as_saved
from veil.progress import Stages
from veil.recognizers.whitebox import WhiteBox
from veil.store import Row
from veil.types import Faces, Images, Masks, Scores

Masker = Callable[[Faces, WhiteBox], Scores]
Inpainter = Callable[[Faces, Masks], Images]
Keep = Callable[[Faces, Masks, Images, list[Row]], None]


class Anonymization(pl.LightningModule):
    """Masker, budget and inpainter in a row; `test_step` has each face measured and hands it to `keep`.

    Args:
        spared: what no mask touches, the knob `keep`.
        minimal: whether each face has its own smallest ratio (`smallest_masks`), of which `ratio` is the most.
        keep: takes the batch's faces, masks, results and one row of figures a face.

    """

    def __init__(
        self,
        panel: Panel,
        masker: Masker,
        inpainter: Inpainter,
        *,
        ratio: float,
        cells: int | None,
        image_format: str,
        keep: Keep,
        stages: Stages,
        spared: Sequence[Part] = (),
        minimal: bool = False,
    ) -> None:
        super().__init__()
        self.panel, self.masker, self.inpainter = panel, masker, inpainter
        self.ratio, self.cells, self.image_format = ratio, cells, image_format
        self.keep, self.stages, self.spared, self.minimal = keep, stages, spared, minimal

    def forward(self, faces: Faces) -> tuple[Images, Masks]:
        """Repainted crops, and where they were repainted."""
        with self.stages.clock("mask"):
            scores = self.masker(faces, self.panel.whitebox)
            height, width = faces.images.shape[-2:]
            kept = protected(faces.images, self.spared) if self.spared else None
            if not self.minimal:
                masks = budget(scores, self.ratio, self.cells, (height, width), kept)
        with self.stages.clock("inpaint"):
            if self.minimal:
                return smallest_masks(faces, scores, self.panel.whitebox, self.inpainter, self.ratio, self.cells, kept)
            return self.inpainter(faces, masks), masks

    @torch.no_grad()
    def repeats_itself(self, faces: Faces) -> bool:
        """Whether an inpainter that should draw each face anew paints the same under every seed."""
        if not getattr(self.inpainter, "stochastic", False):
            return False
        painted, masks = self(faces)
        again = self.inpainter(faces._replace(seeds=faces.seeds + 1), masks)
        return torch.equal(as_saved(painted, "png"), as_saved(again, "png"))

    @torch.no_grad()
    def test_step(self, faces: Faces, _: int) -> None:
        """Anonymise and measure: judges see what the file holds, 8 bits a channel, compression included."""
        painted, masks = self(faces)
        with self.stages.clock("encode"):
            anonymized = as_saved(painted, self.image_format)
        rows = [{"requested": self.ratio, **row} for row in self.panel.rows(faces, masks, anonymized)]
        if self.minimal:
            for row, hidden in zip(rows, unknown(anonymized, faces.identities, self.panel.whitebox), strict=True):
                row |= zip(COLUMNS, (row["achieved"], float(hidden)), strict=True)
        with self.stages.clock("write"):
            self.keep(faces, masks, anonymized, rows)
