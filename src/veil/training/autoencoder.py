"""The autoencoder stage: an `AutoencoderKL` that turns a face into the small latents in which diffusion works."""

import math

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from veil.training.jitter import luma
from veil.training.schedule import by_steps, warm_cosine
from veil.types import Images

STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b")
COMPARED = ("conv2d_2b", "conv2d_4b")  # the stem's layers whose features are compared


def new_autoencoder(channels: tuple[int, ...] = (16, 48, 96), layers: int = 1, size: int = 128) -> AutoencoderKL:
    """An untrained autoencoder of Stable Diffusion's class: four latents per `2 ** (len(channels) - 1)` px square.

    Four, since `StableDiffusionInpaintPipeline` takes a UNet of 4 + 1 + 4 input channels and no other.
    """
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=layers,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=size,
        mid_block_add_attention=False,
    )


class StemFeatures(nn.Module):
    """Features of a FaceNet's first layers, for a perceptual loss (Johnson et al. 2016, arXiv:1603.08155)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: getattr(network, name) for name in STEM}).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "StemFeatures":
        return super().train(False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Features of `images` in [-1, 1]."""
        features, found = images, []
        for name, layer in self.layers.items():
            features = layer(features)
            if name in COMPARED:
                found.append(features)
        return found


def gradients(images: Float[Tensor, "b c h w"]) -> Tensor:
    """Horizontal and vertical differences: where edges are."""
    return torch.cat([images.diff(dim=-1)[..., :-1, :], images.diff(dim=-2)[..., :-1]], dim=1)


def chroma(images: Float[Tensor, "b 3 h w"]) -> Tensor:
    """Red against green and blue against yellow, of 4 px squares: L1 on RGB alone leaves colours pale for long."""
    red, green, blue = F.avg_pool2d(images, 4).unbind(dim=1)
    return torch.stack([red - green, blue - (red + green) / 2], dim=1)


def photo_variants(images: Images, grey: float = 0.3) -> Images:
    """Flip each photo with probability 1/2, and make it grey with probability `grey`."""
    chance = torch.rand(2, len(images), 1, 1, 1, device=images.device)
    images = torch.where(chance[0] < 0.5, images.flip(-1), images)
    return torch.where(chance[1] < grey, luma(images), images)


class AutoencoderTraining(pl.LightningModule):
    """L1 + gradient + feature loss and a small KL (Rombach et al. 2022, arXiv:2112.10752, without the adversary).

    Args:
        autoencoder: the model, new or warm-started.
        stem: `StemFeatures` of a recogniser, or None.
        decoder_only: keep the encoder as it is, so that a UNet trained in its latents stays of use.
        crop: px; training sees random squares of this side, since many small pieces make more steps than few faces.
        rate: highest learning rate, reached after `warm_up` steps and brought down to a tenth by `steps` (cosine).
        grey: share of the photos that are made grey.

    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        stem: StemFeatures | None,
        steps: int,
        decoder_only: bool = False,
        crop: int = 64,
        rate: float = 1e-3,
        warm_up: int = 200,
        grey: float = 0.3,
        chroma_weight: float = 3.0,
        gradient_weight: float = 1.0,
        feature_weight: float = 0.1,
        kl_weight: float = 1e-6,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last).train()
        if decoder_only:
            self.autoencoder.encoder.requires_grad_(False)
            self.autoencoder.quant_conv.requires_grad_(False)
        self.outside = (stem,)  # a tuple keeps it out of the checkpoint and of the average
        self.crop, self.grey = crop, grey
        self.rate, self.steps, self.warm_up = rate, steps, warm_up
        self.weights = {
            "chroma": chroma_weight,
            "gradient": gradient_weight,
            "feature": feature_weight,
            "kl": kl_weight,
        }

    def training_step(self, images: Images, _: int) -> Tensor:
        images = photo_variants(images, self.grey)
        spare = images.shape[-1] - self.crop
        top, left = torch.randint(spare // 4 + 1, (2,)).mul(4).tolist() if spare else (0, 0)
        target = images[..., top : top + self.crop, left : left + self.crop] * 2 - 1
        target = target.contiguous(memory_format=torch.channels_last)
        posterior = self.autoencoder.encode(target).latent_dist
        output = self.autoencoder.decode(posterior.sample()).sample
        terms = {
            "l1": F.l1_loss(output, target),
            "gradient": F.l1_loss(gradients(output), gradients(target)),
            "chroma": F.l1_loss(chroma(output), chroma(target)),
            "kl": posterior.kl().mean(),
        }
        (stem,) = self.outside
        if stem is not None:
            with torch.no_grad():
                wanted = stem.to(target.device)(target)
            terms["feature"] = sum(F.l1_loss(got, want) for got, want in zip(stem(output), wanted, strict=True))
        loss = sum(self.weights.get(name, 1.0) * term for name, term in terms.items())
        self.log_dict({"train/loss": loss} | {f"train/{name}": term for name, term in terms.items()})
        return loss

    def validation_step(self, images: Images, _: int) -> None:
        target = images * 2 - 1
        output = self.autoencoder.decode(self.autoencoder.encode(target).latent_dist.mode()).sample.clamp(-1, 1)
        error = ((output - target) / 2).square().mean(dim=(1, 2, 3))
        self.log("val/psnr", (-10 * error.log10()).mean(), batch_size=len(images))

    def configure_optimizers(self) -> dict:  # type: ignore[override]
        trained = [weights for weights in self.autoencoder.parameters() if weights.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.rate, betas=(0.9, 0.99), weight_decay=0.01)
        progress = by_steps(self.steps, self.warm_up)
        return {"optimizer": optimizer, "lr_scheduler": warm_cosine(optimizer, self.warm_up, progress)}


@torch.no_grad()
def whiten(autoencoder: AutoencoderKL, images: Images, spread: float = 0.01) -> None:
    """Make the latents of `images` uncorrelated, of mean 0 and variance 1, without changing what comes out.

    The change of axes goes into the two 1x1 convolutions that stand round the latents, so the UNet meets the same scale
    in each of its inputs and `scaling_factor` is 1. The posterior's spread becomes the constant `spread`.
    """
    latents = torch.cat([autoencoder.encode(part * 2 - 1).latent_dist.mode() for part in images.split(32)])
    flat = latents.transpose(0, 1).flatten(1).double()
    mean = flat.mean(dim=1)
    variances, axes = torch.linalg.eigh(torch.cov(flat))
    forward, back = (axes / variances.sqrt()).T, axes * variances.sqrt()
    into, out = autoencoder.quant_conv, autoencoder.post_quant_conv
    count = len(mean)
    into.weight[:count, :, 0, 0] = (forward @ into.weight[:count, :, 0, 0].double()).float()
    into.bias[:count] = (forward @ (into.bias[:count].double() - mean)).float()
    into.weight[count:] = 0
    into.bias[count:] = 2 * math.log(spread)
    out.bias += (out.weight[:, :, 0, 0].double() @ mean).float()
    out.weight[:, :, 0, 0] = (out.weight[:, :, 0, 0].double() @ back).float()
    autoencoder.register_to_config(scaling_factor=1.0)
