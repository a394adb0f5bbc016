"""Stage 1 as a Lightning module."""

import pytorch_lightning as pl

from veil.anonymization.anonymizer import Anonymizer
from veil.types import Faces


class Anonymization(pl.LightningModule):
    """`predict_step` anonymises a batch and gives its keys."""

    def __init__(self, anonymizer: Anonymizer) -> None:
        super().__init__()
        self.anonymizer = anonymizer

    def predict_step(self, faces: Faces, _: int) -> tuple[str, ...]:
        """Mask, repaint, write."""
        return self.anonymizer.step(faces)
