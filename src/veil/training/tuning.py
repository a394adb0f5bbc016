"""Fine-tuning as a Lightning module: an embedder and a loss, wired together."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.classification import MulticlassAccuracy

from veil.metrics.verification import TAR
from veil.training.held_out import HeldOut
from veil.types import Embeddings

Batch = Sequence[Tensor]  # what the embedder takes, identities


class Unit(nn.Module):
    """A network whose output is scaled to length 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Embeddings:
        """Embed."""
        return F.normalize(self.network(inputs), dim=1)


class Tuning(pl.LightningModule):
    """Trains an embedder, or only the loss's classes where the embedder has nothing to train.

    The embedder stays in eval mode, its dropout off; its BatchNorm statistics move only where `freeze_norm` is false.
    Validation loaders: probes; then, where people are held out, their gallery and their probes.

    Args:
        embedder: what a loader gives -> unit embeddings: `nn.Identity()` on cached embeddings, the recogniser's last
            block on cached features, or the recogniser itself on images. What is frozen has `requires_grad` false.
        loss: of `veil.training.losses`.
        people: classes.

    """

    def __init__(
        self,
        embedder: nn.Module,
        loss: nn.Module,
        people: int,
        learning_rate: float,
        weight_decay: float,
        freeze_norm: bool = True,
    ) -> None:
        super().__init__()
        self.embedder, self.loss = embedder, loss
        self.accuracy = MulticlassAccuracy(people, average="micro")
        self.held_out = HeldOut()
        self.learning_rate, self.weight_decay, self.freeze_norm = learning_rate, weight_decay, freeze_norm

    def train(self, mode: bool = True) -> "Tuning":
        """Train the loss, and the statistics of the embedder that may move."""
        super().train(mode)
        self.embedder.eval()
        if not self.freeze_norm:
            for norm in self.embedder.modules():
                if isinstance(norm, _BatchNorm):
                    norm.train(mode)
        return self

    def on_train_start(self) -> None:
        """Lightning leaves each part in the mode in which it finds it."""
        self.train()

    def forward(self, inputs: Tensor) -> Embeddings:
        """Embed, in single precision whatever the trainer's."""
        return self.embedder(inputs).float()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss."""
        embeddings = self(batch[0])
        with torch.autocast(self.device.type, enabled=False):
            loss = self.loss(embeddings, batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[1]), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, _: int, dataloader_idx: int = 0) -> None:
        """Cross-entropy without margins, and accuracy; embeddings of held-out people for verification."""
        embeddings = self(batch[0])
        if dataloader_idx:
            self.held_out.update(embeddings, batch[1], enrolled=dataloader_idx == 1)
            return
        with torch.autocast(self.device.type, enabled=False):
            logits: Tensor = self.loss.logits(embeddings)  # type: ignore[operator]
        self.accuracy(logits, batch[1])
        self.log("val/accuracy", self.accuracy, add_dataloader_idx=False, batch_size=len(logits))
        loss = F.cross_entropy(logits, batch[1])
        self.log("val/loss", loss, add_dataloader_idx=False, batch_size=len(logits), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """TAR@FAR of held-out people."""
        if self.held_out.update_count:
            accepted = self.held_out.compute()
            self.log_dict({f"val/{TAR[far].name}": share.value for far, share in accepted.items()}, rank_zero_only=True)
            self.held_out.reset()

    def configure_optimizers(self) -> dict:  # type: ignore[override]
        """AdamW with a cosine schedule by step."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.learning_rate, weight_decay=self.weight_decay)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
