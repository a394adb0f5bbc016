"""The diffusion stage: a UNet that repaints latents, in the format of Stable Diffusion inpainting."""

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from veil.data.known import write_people
from veil.inpainters.composite import cover
from veil.training.schedule import Counted, Draw, Progress, generator_of, mixed_precision, warm_cosine
from veil.types import Images, Masks, field_box

LATENTS = 4
CLEAR_WEIGHT = 0.1  # of latents outside the mask; they are pasted over, and matter for the seam only
SNR_CEILING = 5.0  # ceiling of the signal-to-noise ratio in the weights of the loss
Example = Float[Tensor, "b 9 i j"]  # latents of the photo, mask, latents of the masked photo


def new_unet(
    channels: Sequence[int] = (32, 64, 128, 224), layers: int = 1, size: int = 32, attention: bool = False
) -> UNet2DConditionModel:
    """An untrained UNet of Stable Diffusion inpainting's class.

    Args:
        channels: at each level, multiples of 8, from `size` latents a side down to half as many at each next level.
        attention: at all levels but the first and the last, heads of 32 channels, and in the middle block; without it
            in the middle block only.

    """
    cross, inner = "CrossAttn" if attention else "", len(channels) - 2
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=2 * LATENTS + 1,
        out_channels=LATENTS,
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        down_block_types=("DownBlock2D", *[f"{cross}DownBlock2D"] * inner, "DownBlock2D"),
        up_block_types=("UpBlock2D", *[f"{cross}UpBlock2D"] * inner, "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=16,  # of the constant prompt: one token of zeros
        attention_head_dim=tuple(max(1, width // 32) for width in channels) if attention else 8,  # heads, in fact
        norm_num_groups=8,
    )


def new_scheduler() -> EulerAncestralDiscreteScheduler:
    """Noise down to zero signal, so that sampling starts where training ended (Lin et al. 2023, arXiv:2305.08891).

    Its sampler draws noise anew between the steps, which mends the lopsided eyes of a deterministic one.
    """
    return EulerAncestralDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def new_pipeline(autoencoder: AutoencoderKL, unet: UNet2DConditionModel) -> StableDiffusionInpaintPipeline:
    """The two networks in diffusers' format, without words and without a safety checker."""
    return StableDiffusionInpaintPipeline(
        vae=autoencoder,
        unet=unet,
        scheduler=new_scheduler(),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def signal(scheduler: EulerAncestralDiscreteScheduler) -> Float[Tensor, " t"]:
    """Share of the variance that is signal at each timestep, exactly 0 at the last."""
    kept = scheduler.alphas_cumprod.clone()
    kept[-1] = 0.0  # the sampler keeps a tiny rest there, to divide by
    return kept


@torch.no_grad()
def encode_examples(autoencoder: AutoencoderKL, fields: Images, masks: Masks) -> Example:
    """What the UNet is trained on, as `StableDiffusionInpaintPipeline` makes it: the masked area is grey."""
    photos = (fields * 2 - 1).contiguous(memory_format=torch.channels_last)
    scale = autoencoder.config.scaling_factor
    both = autoencoder.encode(torch.cat([photos, photos * ~masks])).latent_dist.mode().float() * scale
    latents, masked = both.chunk(2)
    return torch.cat([latents, F.interpolate(masks.float(), latents.shape[-2:]), masked], dim=1)


def field_masks(masks: Masks, size: int) -> Bool[Tensor, "b 1 size size"]:
    """The part of crops' masks that lies on the field, at `size` px: a pixel that is masked in part is masked."""
    inner = field_box(masks.shape[-1])
    return cover(masks[..., inner, inner], size).bool()


def write_model(
    autoencoder: AutoencoderKL,
    unet: UNet2DConditionModel,
    folder: Path,
    people: Collection[str] = (),
    before: frozenset[str] = frozenset(),
) -> None:
    """A Stable Diffusion inpainting pipeline without text encoder, in fp16 safetensors; in place of what `folder` held.

    Its files name no path of this machine.

    Args:
        people, before: whom it was trained on, see `write_people`; without any, no list is written.

    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    new_pipeline(autoencoder.half(), unet.half()).save_pretrained(partial)
    for path in partial.rglob("*.json"):
        settings = json.loads(path.read_text())
        settings.pop("_name_or_path", None)  # where warm-started weights were read from
        path.write_text(json.dumps(settings, indent=2) + "\n")
    if people or before:
        write_people(people, partial, before)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def velocity(
    unet: UNet2DConditionModel, noisy: Tensor, examples: Example, times: Int[Tensor, " b"], dtype: str
) -> Tensor:
    """What the UNet predicts for noisy latents `b 4 i j` of these examples, in float32.

    Args:
        dtype: see `veil.training.schedule.mixed_precision`.

    """
    sample = torch.cat([noisy, examples[:, LATENTS:]], dim=1).contiguous(memory_format=torch.channels_last)
    prompt = noisy.new_zeros(len(noisy), 1, unet.config.cross_attention_dim)
    with mixed_precision(noisy.device, dtype):
        return unet(sample, times, prompt).sample.float()


def add_noise(latents: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Latents of which the share `kept` of the variance is signal."""
    return kept.sqrt() * latents + (1 - kept).sqrt() * noise


def velocity_losses(
    unet: UNet2DConditionModel,
    signal: Float[Tensor, " t"],
    examples: Example,
    times: Int[Tensor, " b"],
    noise: Float[Tensor, "b 4 i j"],
    dtype: str = "float32",
) -> Float[Tensor, " b"]:
    """Weighted squared error of the velocity, for each example (v-prediction, Salimans & Ho 2022, arXiv:2202.00512).

    The weight is (min(SNR, 5) + 1) / (SNR + 1): min-SNR (Hang et al. 2023, arXiv:2303.09556) plus one, so that the
    steps near pure noise, where the sampler decides whose face it is, keep their weight.
    """
    latents, mask = examples[:, :LATENTS], examples[:, LATENTS : LATENTS + 1]
    kept = signal[times].view(-1, 1, 1, 1)
    wanted = kept.sqrt() * noise - (1 - kept).sqrt() * latents
    error = (velocity(unet, add_noise(latents, noise, kept), examples, times, dtype) - wanted).square()
    where = mask + CLEAR_WEIGHT * (1 - mask)
    ratio = kept.flatten() / (1 - kept.flatten()).clamp_min(1e-6)
    weight = (ratio.clamp_max(SNR_CEILING) + 1) / (ratio + 1)
    return weight * (error * where).mean(dim=(1, 2, 3)) / where.mean(dim=(1, 2, 3))


def validation_losses(
    unet: UNet2DConditionModel, signal: Float[Tensor, " t"], examples: Example, index: int, dtype: str
) -> Float[Tensor, " b"]:
    """Losses of a validation batch, with the same noise and times at every validation, so that they can be compared."""
    noise = torch.randn(examples[:, :LATENTS].shape, generator=torch.Generator().manual_seed(index)).to(examples)
    times = torch.linspace(0, len(signal) - 1, len(examples), device=examples.device).long()
    with torch.compiler.set_stance("force_eager"):  # a compiled UNet is compiled for training alone
        return velocity_losses(unet, signal, examples, times, noise, dtype)


class DiffusionTraining(Counted):
    """Trains a UNet to predict velocities; `velocity_losses` says what is minimised.

    Times and noise of batch n are drawn from `seed`, the device's number and n alone, so that where progress is by
    steps a run that was killed and resumed is the run that was not.

    Args:
        unet: the model, new or warm-started.
        rate: highest learning rate, reached after `warm_up` steps.
        progress: share of the training that is done after a number of steps: the rate falls by it to a tenth along a
            cosine. None: the rate stays.
        dtype: see `veil.training.schedule.mixed_precision`.
        samples_seen: examples that warm-started weights were already trained on.

    """

    signal: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: EulerAncestralDiscreteScheduler,
        rate: float = 5e-4,
        warm_up: int = 200,
        progress: Progress | None = None,
        dtype: str = "float32",
        seed: int = 0,
        samples_seen: int = 0,
    ) -> None:
        super().__init__(samples_seen)
        self.unet = unet.to(memory_format=torch.channels_last).train()
        self.register_buffer("signal", signal(scheduler), persistent=False)
        self.rate, self.warm_up, self.progress = rate, warm_up, progress
        self.dtype_name, self.seed = dtype, seed

    def training_step(self, examples: Example, _: int) -> Tensor:
        generator = generator_of(self.device, self.seed, Draw.NOISE, self.global_rank, self.batches)
        times = torch.randint(len(self.signal), (len(examples),), generator=generator, device=self.device)
        noise = torch.randn(examples[:, :LATENTS].shape, generator=generator, device=self.device)
        loss = velocity_losses(self.unet, self.signal, examples, times, noise, self.dtype_name).mean()
        self.batches += 1
        self.samples_seen += len(examples) * self.trainer.world_size
        self.log_dict({"train/loss": loss, "train/samples_seen": float(self.samples_seen)})
        return loss

    def validation_step(self, examples: Example, index: int) -> None:
        loss = validation_losses(self.unet, self.signal, examples, index, self.dtype_name).mean()
        self.log("val/loss", loss, batch_size=len(examples), sync_dist=True)

    def configure_optimizers(self) -> dict:  # type: ignore[override]
        optimizer = torch.optim.AdamW(self.unet.parameters(), self.rate, betas=(0.9, 0.99), weight_decay=0.01)
        return {"optimizer": optimizer, "lr_scheduler": warm_cosine(optimizer, self.warm_up, self.progress)}
