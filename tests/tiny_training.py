"""Tiny networks, fields of noise and a silent trainer, for the tests of the inpainter's training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from veil.training.autoencoder import new_autoencoder
from veil.training.data import split_fields
from veil.training.diffusion import new_unet
from veil.training.examples import Drawing, Examples

SIZE = 32  # px of the fields; 40 with room
CPU = torch.device("cpu")
IGNORED = (
    "ignore:__array__ implementation doesn't accept a copy",  # diffusers' schedulers
    "ignore:.*LeafSpec.*is deprecated",  # Lightning's use of torch's pytree
    "ignore:.*dataloader is not resumable",  # what is resumed draws the right rows by itself, or anew
    "ignore:.*does not have many workers",  # Lightning's advice: these data are tiny
    "ignore:.*in eval mode at the start of training",  # what is frozen, on purpose
)


def tiny_autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return new_autoencoder((8, 8, 8), size=SIZE).eval()


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return new_unet((8, 16), size=SIZE // 4)


def noise_fields(folder: Path, count: int = 20, side: int = 40) -> Path:
    """A file of fields of noise."""
    pictures = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), np.uint8)
    np.save(folder / "fields.npy", pictures)
    return folder / "fields.npy"


def tiny_examples(fields: Path, folder: Path, batch: int = 4) -> Examples:
    """Of 16 fields to train on, in shards of 8, and 4 held out."""
    return Examples(Drawing(fields, tiny_autoencoder()), *split_fields(fields, 4, seed=0), batch, 8, 2, folder)


def trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing="callbacks" in options, enable_progress_bar=False,
        enable_model_summary=False, check_val_every_n_epoch=None, val_check_interval=2, num_sanity_val_steps=0,
        **options,
    )  # fmt: skip
