"""Callbacks: how far, how fast and how well a training goes; its checkpoint; its average."""

import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging

from veil.training.counted import Counted
from veil.training.schedule import warm_average


class Pace(pl.Callback):
    """Say the examples seen, the examples a second since the last line, and the validation loss.

    Validation itself is not counted as time.
    """

    def __init__(self, say: Callable[[str], None], label: str) -> None:
        self.say, self.label = say, label
        self.since, self.seen, self.rate = 0.0, 0, 0.0

    def on_train_start(self, _: pl.Trainer, module: pl.LightningModule) -> None:
        self._begin(module)

    def on_validation_start(self, _: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Counted)
        self.rate = (module.samples_seen - self.seen) / max(time.perf_counter() - self.since, 1e-6)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Counted)
        if trainer.is_global_zero:
            loss = float(trainer.callback_metrics["val/loss"])
            seen = f"{module.samples_seen:,} examples seen, {self.rate:.0f} a second"
            self.say(f"{self.label}: batch {module.batches}, {seen}, validation {loss:.4f}")
        self._begin(module)

    def _begin(self, module: pl.LightningModule) -> None:
        assert isinstance(module, Counted)
        self.since, self.seen = time.perf_counter(), module.samples_seen


class Keep(Checkpoint):
    """Keep one checkpoint: every some minutes and at the end. Lightning's own keeps none where optimisation is manual.

    Args:
        path: of the checkpoint; it is replaced as a whole.

    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.minutes, self.since = path, minutes, 0.0

    def on_train_start(self, *_: object) -> None:
        self.since = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        due = time.monotonic() - self.since >= 60 * self.minutes
        if trainer.strategy.broadcast(due):
            self.on_train_end(trainer)

    def on_train_end(self, trainer: pl.Trainer, *_: object) -> None:
        trainer.save_checkpoint(self.path)
        self.since = time.monotonic()


class Average(WeightAveraging):
    """An exponential average of the weights, which is validated, and is the `state_dict` of a checkpoint.

    When training ends the module keeps the weights that it was trained to, from which a resumed run goes on.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=warm_average(decay))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pass
