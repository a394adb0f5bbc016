"""The second stage: a UNet that repaints latents, in the format of Stable Diffusion inpainting."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from veil.inpainters.sizes import cover
from veil.training.autoencoder import photo_variants, warm_cosine
from veil.training.masks import draw_masks
from veil.types import FIELD, Images, Masks

LATENTS = 4
Example = Float[Tensor, "b 9 i j"]  # latents of the photo, mask, latents of the masked photo


def new_unet(channels: tuple[int, ...] = (32, 64, 128, 224), layers: int = 1, size: int = 32) -> UNet2DConditionModel:
    """An untrained UNet of Stable Diffusion inpainting's class; attention in the middle block only."""
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=2 * LATENTS + 1,
        out_channels=LATENTS,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=16,  # of the constant prompt: one token of zeros
        attention_head_dim=8,
        norm_num_groups=8,
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Noise down to zero signal, so that sampling starts where training ended (Lin et al. 2023, arXiv:2305.08891)."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def signal(scheduler: DPMSolverMultistepScheduler) -> Float[Tensor, " t"]:
    """Share of the variance that is signal at each timestep, exactly 0 at the last."""
    kept = scheduler.alphas_cumprod.clone()
    kept[-1] = 0.0  # the solver keeps a tiny rest there, to divide by
    return kept


@torch.no_grad()
def encode_examples(autoencoder: AutoencoderKL, fields: Images, masks: Masks) -> Example:
    """What the UNet is trained on, as `StableDiffusionInpaintPipeline` makes it: the masked area is grey."""
    photos = fields * 2 - 1
    scale = autoencoder.config.scaling_factor
    both = autoencoder.encode(torch.cat([photos, photos * ~masks])).latent_dist.mode() * scale
    latents, masked = both.chunk(2)
    return torch.cat([latents, F.interpolate(masks.float(), latents.shape[-2:]), masked], dim=1)


def field_box(crop: int) -> slice:
    """Rows, and columns, of the field in a crop of `crop` px."""
    edge = round(crop * (1 - FIELD) / 2)
    return slice(edge, crop - edge)


def field_masks(masks: Masks, size: int) -> Bool[Tensor, "b 1 size size"]:
    """The part of crops' masks that lies on the field, at `size` px: a pixel that is masked in part is masked."""
    inner = field_box(masks.shape[-1])
    return cover(masks[..., inner, inner], size).bool()


def write_latents(autoencoder: AutoencoderKL, fields: ndarray, path: Path, seed: int, batch: int = 32) -> None:
    """Encode each field (`n h w 3`, uint8) once, flipped, grey and masked at random, into a `.npy` of Examples."""
    generator = torch.Generator().manual_seed(seed)
    size = fields.shape[1]
    scale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    partial = path.with_suffix(".partial")
    shape = (len(fields), 2 * LATENTS + 1, size // scale, size // scale)
    out = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(fields), batch):
            photos = torch.from_numpy(fields[start : start + batch]).permute(0, 3, 1, 2) / 255
            masks = field_masks(draw_masks(len(photos), generator), size)
            example = encode_examples(autoencoder, photo_variants(photos), masks)
            out[start : start + batch] = example.half().numpy()
    out.flush()
    partial.rename(path)


def write_model(autoencoder: AutoencoderKL, unet: UNet2DConditionModel, folder: Path) -> None:
    """A Stable Diffusion inpainting pipeline without text encoder, in fp16 safetensors."""
    StableDiffusionInpaintPipeline(
        vae=autoencoder.half(),
        unet=unet.half(),
        scheduler=new_scheduler(),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


class DiffusionTraining(pl.LightningModule):
    """v-prediction (Salimans & Ho 2022, arXiv:2202.00512), its weight held down where little noise is left.

    The weight is (min(SNR, gamma) + 1) / (SNR + 1): min-SNR (Hang et al. 2023, arXiv:2303.09556) plus one, so that the
    steps near pure noise, where the sampler decides whose face it is, keep their weight.

    Args:
        unet: the model, new or warm-started.
        rate: highest learning rate, after `warm_up` steps; brought down to a tenth by `steps` (cosine).
        clear_weight: weight of latents outside the mask; they are pasted over, and matter for the seam only.
        gamma: ceiling of the signal-to-noise ratio in the weights.
        samples_seen: examples that warm-started weights were already trained on.

    """

    signal: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: DPMSolverMultistepScheduler,
        steps: int,
        rate: float = 5e-4,
        warm_up: int = 500,
        clear_weight: float = 0.1,
        gamma: float = 5.0,
        samples_seen: int = 0,
    ) -> None:
        super().__init__()
        self.unet = unet.to(memory_format=torch.channels_last).train()
        self.register_buffer("signal", signal(scheduler), persistent=False)
        self.rate, self.steps, self.warm_up = rate, steps, warm_up
        self.clear_weight, self.gamma = clear_weight, gamma
        self.samples_seen = samples_seen

    def loss(self, examples: Example, times: Tensor, noise: Tensor) -> Float[Tensor, " b"]:
        """Weighted squared error of the velocity, for each example."""
        latents, mask, masked = examples.split([LATENTS, 1, LATENTS], dim=1)
        kept = self.signal[times].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * latents
        prompt = noise.new_zeros(len(noise), 1, self.unet.config.cross_attention_dim)
        sample = torch.cat([noisy, mask, masked], dim=1).contiguous(memory_format=torch.channels_last)
        error = (self.unet(sample, times, prompt).sample - velocity).square()
        where = mask + self.clear_weight * (1 - mask)
        ratio = kept.flatten() / (1 - kept.flatten()).clamp_min(1e-6)
        return (
            (ratio.clamp_max(self.gamma) + 1)
            / (ratio + 1)
            * (error * where).mean(dim=(1, 2, 3))
            / where.mean(dim=(1, 2, 3))
        )

    def training_step(self, examples: Example, _: int) -> Tensor:
        times = torch.randint(len(self.signal), (len(examples),), device=examples.device)
        loss = self.loss(examples, times, torch.randn_like(examples[:, :LATENTS])).mean()
        self.samples_seen += len(examples) * self.trainer.world_size
        self.log_dict({"train/loss": loss, "train/samples_seen": float(self.samples_seen)})
        return loss

    def validation_step(self, examples: Example, index: int) -> None:
        """The same noise and times at every validation, so that figures can be compared."""
        generator = torch.Generator().manual_seed(index)
        noise = torch.randn(examples[:, :LATENTS].shape, generator=generator).to(examples)
        times = torch.linspace(0, len(self.signal) - 1, len(examples), device=examples.device).long()
        self.log("val/loss", self.loss(examples, times, noise).mean(), batch_size=len(examples))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["samples_seen"] = self.samples_seen

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.samples_seen = checkpoint["samples_seen"]

    def configure_optimizers(self) -> dict:  # type: ignore[override]
        optimizer = torch.optim.AdamW(self.unet.parameters(), self.rate, betas=(0.9, 0.99), weight_decay=0.01)
        return {"optimizer": optimizer, "lr_scheduler": warm_cosine(optimizer, self.warm_up, self.steps)}
