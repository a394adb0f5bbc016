"""What the model paints, looked at while it trains."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline
from torchvision.utils import make_grid, save_image

from veil.training.diffusion import field_masks, new_scheduler
from veil.training.masks import draw_masks
from veil.types import Images

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
        pipeline = StableDiffusionInpaintPipeline(
            vae=self.autoencoder.to(module.device),
            unet=module.unet,
            scheduler=new_scheduler(),
            text_encoder=None,
            tokenizer=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
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
