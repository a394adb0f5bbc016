"""Fine-tune a recogniser's head: a linear classifier of the enrolled people on a frozen trunk."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from veil.config import Config
from veil.data.faces import Enrolment, FaceSet
from veil.metrics.intervals import Interval
from veil.metrics.privacy import ClearAccuracy
from veil.progress import Stages, console
from veil.recognizers.embed import clear_embeddings
from veil.recognizers.weights import read_state, write_state
from veil.report.tables import metrics_table
from veil.store import head_folder
from veil.tasks.prepare import prepared
from veil.tracking import publish
from veil.types import Embeddings, Identities, Images

Batch = list[Tensor]  # embeddings, identities


class HeadTraining(pl.LightningModule):
    """Linear + softmax on the embeddings of a frozen recogniser (the 2022 study's fine-tuning).

    The trunk stays in eval mode and outside the checkpoints; its embeddings are computed once, by the caller.

    Args:
        recognizer: the trunk, frozen.
        size: length of an embedding.
        people: classes.
        learning_rate: Adam's, falling to 0 as a cosine over `epochs`.
        patience: epochs without a lower validation loss before training stops.

    """

    def __init__(
        self,
        recognizer: nn.Module,
        size: int,
        people: int,
        learning_rate: float,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        patience: int,
    ) -> None:
        super().__init__()
        self.recognizer = recognizer.requires_grad_(False).eval()
        self.head = nn.Linear(size, people)
        nn.init.zeros_(self.head.weight)  # the loss is convex: no need for random numbers
        nn.init.zeros_(self.head.bias)
        self.accuracy = MulticlassAccuracy(people, average="micro")
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.epochs, self.batch_size, self.patience = epochs, batch_size, patience
        self.strict_loading = False  # the trunk is not in the checkpoint

    def train(self, mode: bool = True) -> "HeadTraining":
        """Train the head; the trunk stays in eval mode."""
        super().train(mode)
        self.recognizer.eval()
        return self

    def forward(self, images: Images) -> Float[Tensor, "b people"]:
        """Logits of images."""
        return self.head(self.recognizer(images))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Cross-entropy."""
        loss = F.cross_entropy(self.head(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Loss and accuracy on clear probes."""
        logits = self.head(batch[0])
        self.accuracy(logits, batch[1])
        self.log("val/loss", F.cross_entropy(logits, batch[1]))
        self.log("val/accuracy", self.accuracy)

    def configure_optimizers(self) -> dict:  # type: ignore[override]
        """Adam with a cosine schedule by epoch."""
        optimizer = torch.optim.Adam(self.head.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Leave the trunk out."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name.startswith("head.")}


def finetune(config: Config) -> Path:
    """Train the head, or find it; print its accuracy on clear probes."""
    run = head_folder(config)
    if run.complete:
        console.print(f"Found the finished run in {run.path}")
    else:
        stages = Stages()
        with stages.clock("set-up"):
            quiet_lightning()
            enrolment = prepared(config, stages)
            recognizer = instantiate(config.recognizer)
        clear = embed_both(recognizer, enrolment, config.cache, stages, config.choices.recognizer)
        logger = instantiate(config.logger)(name=f"{config.choices.data}-{config.choices.recognizer}")
        fitted_head(config, recognizer, enrolment, clear, stages, logger)
        publish(logger, run)
    console.print(metrics_table(run.metrics()), f"Head: {run.path / 'head.safetensors'}")
    return run.path


class Clear(NamedTuple):
    """Embeddings of the clear photos."""

    gallery: Float[Tensor, "g d"]
    probes: Float[Tensor, "p d"]


def embed_both(recognizer: nn.Module, enrolment: Enrolment, cache: str, stages: Stages, name: str) -> Clear:
    """Clear embeddings of gallery and probes."""
    gallery = clear_embeddings(recognizer, enrolment.gallery, cache, stages, f"enrol with {name}")
    return Clear(gallery, clear_embeddings(recognizer, enrolment.probes, cache, stages, f"probe with {name}"))


def fitted_head(
    config: Config,
    recognizer: nn.Module,
    enrolment: Enrolment,
    clear: Clear,
    stages: Stages,
    logger: Logger | None = None,
) -> nn.Linear:
    """The classifier for this data, recogniser, split and seed: read where it exists, else trained (seconds)."""
    run = head_folder(config)
    size, people = clear.gallery.shape[1], len(enrolment.people)
    with run.claimed(wait=True):
        if not run.complete:
            module = instantiate(config.head)(recognizer=recognizer, size=size, people=people)
            shutil.rmtree(run.partial, ignore_errors=True)  # seconds of work: begun anew, not resumed
            with run.writing() as folder:
                _fit(config, module, enrolment, clear, stages, folder, logger)
    head = nn.Linear(size, people)
    head.load_state_dict(read_state(run.path / "head.safetensors"))
    return head


def _fit(
    config: Config,
    module: HeadTraining,
    enrolment: Enrolment,
    clear: Clear,
    stages: Stages,
    folder: Path,
    logger: Logger | None,
) -> None:
    quiet_lightning()
    shuffle = torch.Generator().manual_seed(config.seed)
    enrolled = TensorDataset(clear.gallery, _identities(enrolment.gallery))
    probes = TensorDataset(clear.probes, _identities(enrolment.probes))
    best = ModelCheckpoint(
        folder / "checkpoint", "best", monitor="val/loss", save_weights_only=True, enable_version_counter=False
    )
    with stages.bar("finetune", module.epochs, "epochs") as advance:
        trainer = instantiate(
            config.trainer,
            max_epochs=module.epochs,
            logger=[CSVLogger(folder, name="", version="curves"), *([logger] if logger else [])],
            callbacks=[
                best,
                EarlyStopping("val/loss", patience=module.patience),
                LambdaCallback(on_train_epoch_end=lambda *_: advance(1)),
            ],
            enable_checkpointing=True,
            log_every_n_steps=1,
        )
        loader = DataLoader(enrolled, module.batch_size, shuffle=True, generator=shuffle)
        trainer.fit(module, loader, DataLoader(probes, len(probes)))
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(checkpoint, strict=False)
    head = module.head.cpu()
    write_state(head.state_dict(), folder / "head.safetensors")
    name = f"clear/{config.choices.recognizer}/accuracy"
    metrics = {name: clear_accuracy(head, *probes.tensors)._asdict()}
    figures = {"metrics": metrics, "flags": [], "absent": {}, "timings": stages.seconds}
    (folder / "metrics.json").write_text(json.dumps(figures | {"epochs": trainer.current_epoch}, indent=2))


@torch.no_grad()
def clear_accuracy(head: nn.Linear, embeddings: Embeddings, identities: Identities) -> Interval:
    """Accuracy of the head on clear probes."""
    metric = ClearAccuracy()
    metric.update(head(embeddings), identities)
    interval = metric.compute()
    assert interval is not None  # enrolment refuses data without probes
    return interval


def _identities(faces: FaceSet) -> Identities:
    return torch.tensor(faces.identities)


def quiet_lightning() -> None:
    """Silence what Lightning says that does not apply here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # batches are small
        ".*module.s. in eval mode at the start of training.*",  # the frozen trunk, on purpose
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.15
    ):
        warnings.filterwarnings("ignore", message=message)
