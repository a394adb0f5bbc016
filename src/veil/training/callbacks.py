"""Callbacks: how far, how fast and how well a training goes; its checkpoint; its average; what it paints."""

import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging
from torchvision.utils import make_grid, save_image

from veil.training.diffusion import field_masks, new_pipeline
from veil.training.masks import draw_masks
from veil.training.schedule import Counted, warm_average
from veil.types import Images


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


STEPS = 8


class SampleGrid(pl.Callback):
    """At each validation: masked fields above repainted ones, always the same faces, masks and noise.

    A picture shows what is not masked of the photos, so it stays in `folder` and goes to no logger. The
    validated weights paint it: this callback goes before one that averages weights, which takes the average out again.
    """

    def __init__(self, autoencoder: AutoencoderKL, fields: Images, folder: Path) -> None:
        self.autoencoder, self.fields, self.folder = autoencoder, fields, folder
        self.masks = field_masks(draw_masks(len(fields), torch.Generator().manual_seed(0)), fields.shape[-1])

    @torch.no_grad()
    @torch.compiler.set_stance("force_eager")
    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        pipeline = new_pipeline(self.autoencoder.to(module.device), module.unet)
        pipeline.set_progress_bar_config(disable=True)
        prompt_size = pipeline.unet.config.cross_attention_dim
        count, size = len(self.fields), self.fields.shape[-1]
        painted = pipeline(
            image=self.fields,
            mask_image=self.masks.float(),
            height=size,
            width=size,
            num_inference_steps=STEPS,
            guidance_scale=1.0,
            generator=[torch.Generator().manual_seed(number) for number in range(count)],
            prompt_embeds=torch.zeros(count, 1, prompt_size),
            output_type="pt",
        ).images.to(self.fields)
        shown = torch.cat([torch.where(self.masks, 0.5, self.fields), torch.where(self.masks, painted, self.fields)])
        self.folder.mkdir(parents=True, exist_ok=True)
        save_image(make_grid(shown, nrow=count), self.folder / f"step-{module.batches:07d}.png")
