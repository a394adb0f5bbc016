"""The third stage: a decoder that also reads the pixels which are not masked, so that what is painted meets them."""

import pytorch_lightning as pl
import torch
from diffusers import AsymmetricAutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from veil.training.autoencoder import Autoencoder, StemFeatures, chroma, gradients, photo_variants, warm_cosine
from veil.training.diffusion import LATENTS, Example, encode_examples, field_masks, signal
from veil.training.masks import draw_masks
from veil.types import Images, Masks

WIDTHS = (24, 48, 96)  # the condition encoder of diffusers' class doubles its channels from level to level


def conditioned(autoencoder: Autoencoder, widths: tuple[int, ...] = WIDTHS) -> AsymmetricAutoencoderKL:
    """An autoencoder with the same encoder, and a decoder that takes the visible pixels and the mask beside the latents
    (Zhu et al. 2023, arXiv:2306.04632). Weights of the old decoder that fit are its start.

    The class puts attention into both middle blocks; it starts as the identity, and stays so in the encoder.
    """
    if isinstance(autoencoder, AsymmetricAutoencoderKL):
        return autoencoder
    config = autoencoder.config
    new = AsymmetricAutoencoderKL(
        down_block_types=config.down_block_types,
        down_block_out_channels=config.block_out_channels,
        layers_per_down_block=config.layers_per_block,
        up_block_types=config.up_block_types,
        up_block_out_channels=widths,
        layers_per_up_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        sample_size=config.sample_size,
        scaling_factor=config.scaling_factor,
    )
    for part in (new.encoder, new.decoder):
        for attention in part.mid_block.attentions:
            torch.nn.init.zeros_(attention.to_out[0].weight)
            torch.nn.init.zeros_(attention.to_out[0].bias)
    state = new.state_dict()
    fitting = {name: old for name, old in autoencoder.state_dict().items() if state[name].shape == old.shape}
    new.load_state_dict(state | fitting)
    return new


class DecoderTraining(pl.LightningModule):
    """The decoder repairs what the UNet leaves: it sees latents as the UNet denoises them, and the visible pixels.

    Photos are noised up to `highest` of 1000 timesteps only, so that what comes out is still the face that went in and
    can be compared with it. A share of the batches is decoded without visible pixels, as a round trip does.

    Args:
        autoencoder: from `conditioned`; the encoder is kept as it is, so the UNet stays of use.
        unet: trained on this encoder's latents; frozen.
        stem: `StemFeatures` of a recogniser.
        rate: highest learning rate, after `warm_up` steps; brought down to a tenth by `steps` (cosine).

    """

    signal: Tensor

    def __init__(
        self,
        autoencoder: AsymmetricAutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DPMSolverMultistepScheduler,
        stem: StemFeatures,
        steps: int,
        rate: float = 1e-3,
        warm_up: int = 200,
        highest: int = 450,
        denoising_steps: int = 2,
        unconditioned: float = 0.15,
        clear_weight: float = 0.05,
        feature_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.train()
        for part in (autoencoder.encoder, autoencoder.quant_conv, autoencoder.post_quant_conv):
            part.requires_grad_(False)
        self.outside = (unet.requires_grad_(False).eval(), stem)  # a tuple keeps them out of checkpoint and average
        self.register_buffer("signal", signal(scheduler), persistent=False)
        self.rate, self.steps, self.warm_up = rate, steps, warm_up
        self.highest, self.denoising_steps, self.unconditioned = highest, denoising_steps, unconditioned
        self.clear_weight, self.feature_weight = clear_weight, feature_weight

    @property
    def unet(self) -> UNet2DConditionModel:
        """Frozen; on this module's device."""
        return self.outside[0].to(self.device)

    @torch.no_grad()
    def denoised(self, examples: Example, noise: Tensor, times: Tensor) -> Float[Tensor, "b 4 i j"]:
        """Latents that were noised to `times` and brought back by the UNet in a few DDIM steps."""
        latents, mask, masked = examples.split([LATENTS, 1, LATENTS], dim=1)
        unet = self.unet
        prompt = noise.new_zeros(len(noise), 1, unet.config.cross_attention_dim)
        for step in range(self.denoising_steps, 0, -1):
            at = times * step // self.denoising_steps
            kept = self.signal[at].view(-1, 1, 1, 1)
            noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
            velocity = unet(torch.cat([noisy, mask, masked], dim=1), at, prompt).sample.float()
            latents = kept.sqrt() * noisy - (1 - kept).sqrt() * velocity
            noise = kept.sqrt() * velocity + (1 - kept).sqrt() * noisy
        return latents

    def decode(self, images: Images, masks: Masks, generator: Generator | None = None, blind: bool = False) -> Tensor:
        """Photos, in [-1, 1], as the whole model would give them back."""
        examples = encode_examples(self.autoencoder, images, masks)
        noise = torch.randn(examples[:, :LATENTS].shape, generator=generator).to(examples)
        times = torch.randint(self.highest, (len(images),), generator=generator).to(self.device)
        latents = self.denoised(examples, noise, times) / self.autoencoder.config.scaling_factor
        if blind:
            return self.autoencoder.decode(latents).sample
        return self.autoencoder.decode(latents, image=images * 2 - 1, mask=masks.to(images)).sample

    def losses(self, output: Tensor, images: Images, masks: Masks, blind: bool = False) -> dict[str, Tensor]:
        """Of the output, and of what is seen in the end: the output pasted into the photo."""
        output, target = output.float(), images * 2 - 1
        pasted = output if blind else torch.where(masks, output, target)
        share = 1.0 if blind else masks.float().mean()
        stem = self.outside[1].to(target.device)
        with torch.no_grad():
            wanted = stem(target)
        return {
            "l1": F.l1_loss(pasted, target) / share + self.clear_weight * F.l1_loss(output, target),
            "gradient": F.l1_loss(gradients(pasted), gradients(target)) / share,
            "chroma": 3.0 * F.l1_loss(chroma(pasted), chroma(target)) / share,
            "feature": torch.stack([F.l1_loss(got, want) for got, want in zip(stem(pasted), wanted, strict=True)]).sum()
            * (self.feature_weight / share),
        }

    def training_step(self, images: Images, _: int) -> Tensor:
        images = photo_variants(images)
        masks = field_masks(draw_masks(len(images), torch.default_generator), images.shape[-1]).to(images.device)
        blind = bool(torch.rand(()) < self.unconditioned)
        terms = self.losses(self.decode(images, masks, blind=blind), images, masks, blind)
        loss = sum(terms.values(), torch.zeros((), device=self.device))
        self.log_dict({"train/loss": loss} | {f"train/{name}": term for name, term in terms.items()})
        return loss

    def validation_step(self, images: Images, index: int) -> None:
        """The same masks and noise at every validation, so that figures can be compared."""
        generator = torch.Generator().manual_seed(index)
        masks = field_masks(draw_masks(len(images), generator), images.shape[-1]).to(images.device)
        terms = self.losses(self.decode(images, masks, generator), images, masks)
        self.log_dict({f"val/{name}": term for name, term in terms.items()}, batch_size=len(images))

    def configure_optimizers(self) -> dict:  # type: ignore[override]
        trained = [weights for weights in self.autoencoder.parameters() if weights.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.rate, betas=(0.9, 0.99), weight_decay=0.01)
        return {"optimizer": optimizer, "lr_scheduler": warm_cosine(optimizer, self.warm_up, self.steps)}
