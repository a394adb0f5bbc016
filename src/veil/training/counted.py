"""A module that knows how far it is."""

import pytorch_lightning as pl


class Counted(pl.LightningModule):
    """Counts the batches that it was trained on, and the examples in them; its checkpoints keep both."""

    def __init__(self, samples_seen: int = 0) -> None:
        super().__init__()
        self.batches, self.samples_seen = 0, samples_seen

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint |= {"batches": self.batches, "samples_seen": self.samples_seen}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.batches, self.samples_seen = checkpoint["batches"], checkpoint["samples_seen"]
