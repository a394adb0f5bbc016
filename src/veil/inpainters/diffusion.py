"""Repaint the mask with a latent diffusion model: Stable Diffusion inpainting, or anything diffusers calls so."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from veil.data.known import lists_people, read_people
from veil.errors import InputError
from veil.inpainters import composite
from veil.inpainters.composite import cover, resize, resize_visible, with_lone_latents
from veil.inpainters.pipeline import load_pipeline, named_scheduler, own_resolution, quiet
from veil.storage.packages import packaged_model
from veil.types import CROP, VIEW, Faces, Images, Masks

log = logging.getLogger(__name__)

PROMPT_PARTS = {  # what a pipeline's `encode_prompt` returns, by how much it returns
    2: ("prompt_embeds", "negative_prompt_embeds"),  # Stable Diffusion
    3: ("prompt_embeds", "pooled_prompt_embeds", None),  # Flux
    4: (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),  # SDXL, SD3
}


class DiffusionInpainter:
    """Latent-diffusion inpainting (Rombach et al. 2022, arXiv:2112.10752) of a square round each face's view.

    The noise of a face is drawn on the CPU from its own seed, so it does not depend on the batch or the device. Nothing
    that is masked reaches the model, unless `strength` asks for it.

    Args:
        model: a diffusers folder, an id on the Hugging Face hub, or `package:face_diffusion`, which installs with Veil.
        revision: branch, tag or commit of a hub model.
        variant: which weight files of the folder, `fp16` say.
        dtype: `float32`, `bfloat16` or `float16`; None is float32 on a CPU and bfloat16 on a GPU.
        device: where the model runs; None is a GPU if there is one.
        scheduler: a diffusers scheduler class; None keeps the model's own.
        scheduler_options: its keyword arguments, over the model's.
        steps: denoising steps when `strength` is 1.
        guidance: classifier-free guidance; the second pass it needs is left out where it changes nothing, at
            `guidance <= 1` or when both prompts say the same. A guidance-distilled model (Flux) takes it as it is.
        strength: in (0, 1]; below 1 the noise leaves a rest of the original to start from.
        lora: folder, file or hub id of LoRA weights.
        resolution: px, side of the model's picture; None is the model's own.
        batch_size: faces at once; halved as often as a GPU's memory asks for it.
        field: side of the repainted square in views (1 to 1.6); the rest of the crop never reaches the model.
        paste_back: keep every pixel outside the mask; else the whole field is the model's output.
        match_border: shift what is pasted back, smoothly, to the colours round the mask (`composite.match_border`).
        feather: px, soft rim inside the mask (`composite.paste_back`).

    """

    stochastic = True  # its results depend on the faces' seeds

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        variant: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        scheduler: str | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        steps: int = 20,
        guidance: float = 1.0,
        strength: float = 1.0,
        prompt: str = "",
        negative_prompt: str = "",
        lora: str | None = None,
        resolution: int | None = None,
        batch_size: int = 8,
        field: float = 1.2,
        paste_back: bool = True,
        match_border: bool = False,
        feather: float = 0.0,
        compile: bool = False,
        channels_last: bool = True,
        vae_tiling: bool = False,
        vae_slicing: bool = False,
        cpu_offload: bool = False,
    ) -> None:
        if not 1 <= field <= 1 / VIEW:
            raise InputError(
                f"inpainter.field is the repainted square's side in views, in [1, {1 / VIEW}], got {field}"
            )
        if not 0 < strength <= 1 or int(steps * strength) < 1:
            raise InputError(f"inpainter.strength is in (0, 1] and leaves >= 1 of {steps} steps, got {strength}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        default = "float32" if self.device.type == "cpu" else "bfloat16"
        with quiet():
            pipeline = load_pipeline(model, revision, variant, getattr(torch, dtype or default))
            if lora:
                pipeline.load_lora_weights(lora)
                pipeline.fuse_lora()
        if scheduler:
            pipeline.scheduler = named_scheduler(scheduler).from_config(
                pipeline.scheduler.config, **(scheduler_options or {})
            )
        pipeline.set_progress_bar_config(disable=True)
        denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
        if channels_last:
            denoiser.to(memory_format=torch.channels_last)
            pipeline.vae.to(memory_format=torch.channels_last)
        if vae_tiling:
            pipeline.vae.enable_tiling()
        if vae_slicing:
            pipeline.vae.enable_slicing()
        if cpu_offload and self.device.type != "cpu":
            pipeline.enable_model_cpu_offload(device=self.device)
        else:
            pipeline.to(self.device)
        if compile:
            denoiser.compile()
        self.pipeline, folder = pipeline, packaged_model(model)
        self.training_people, self.people_listed = read_people(folder), lists_people(folder)
        self.steps, self.strength = steps, strength
        free = hasattr(type(pipeline), "do_classifier_free_guidance")  # else guidance is one of the model's inputs
        self.guidance = 1.0 if free and (guidance <= 1 or prompt == negative_prompt) else guidance
        self.resolution = resolution or own_resolution(pipeline)
        self.batch_size, self.field = batch_size, field
        self.paste_back, self.match_border, self.feather = paste_back, match_border, feather
        self.prompt = self._encode_prompt(prompt, negative_prompt)
        self.accepts = inspect.signature(pipeline.__call__).parameters

    def __call__(self, faces: Faces, masks: Masks) -> Images:
        """Repaint `masks` in `faces`, a batch at a time."""
        edge = round(CROP * (1 - self.field * VIEW) / 2) * faces.images.shape[-1] // CROP
        inner = slice(edge, faces.images.shape[-1] - edge)
        fields, holes = faces.images[..., inner, inner], masks[..., inner, inner]
        painted = faces.images.clone()
        painted[..., inner, inner] = self._in_batches(fields, holes, faces.seeds.tolist())
        if not self.paste_back:
            return painted
        if self.match_border:
            painted = composite.match_border(faces.images, painted, masks)
        return composite.paste_back(faces.images, painted, masks, self.feather)

    def _in_batches(self, fields: Images, masks: Masks, seeds: list[int]) -> Images:
        done: list[Tensor] = []
        start = 0
        while start < len(seeds):
            part = slice(start, start + self.batch_size)
            try:
                done.append(self._repaint(fields[part], masks[part], seeds[part]))
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size //= 2
                torch.cuda.empty_cache()
                log.warning("out of GPU memory: going on with inpainter.batch_size=%d", self.batch_size)
            else:
                start = part.stop
        return torch.cat(done) if done else fields

    def _repaint(self, fields: Images, masks: Masks, seeds: list[int]) -> Images:
        """One call of the pipeline: the square at the model's resolution and back."""
        options = {"strength": self.strength} if "strength" in self.accepts else {}
        hidden = self.strength == 1  # below 1 the rest of the original that is asked for must be there
        output = self.pipeline(
            image=resize_visible(fields, masks, self.resolution) if hidden else resize(fields, self.resolution),
            mask_image=with_lone_latents(cover(masks, self.resolution), self.pipeline.vae_scale_factor),
            height=self.resolution,
            width=self.resolution,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
            **{name: part.repeat(len(seeds), *[1] * (part.ndim - 1)) for name, part in self.prompt.items()},
            **options,
        ).images
        return resize(output.to(fields), fields.shape[-1])

    @torch.no_grad()
    def _encode_prompt(self, prompt: str, negative_prompt: str) -> dict[str, Tensor]:
        """The prompt's embeddings, made once; one token of zeros for a model without a text encoder."""
        pipeline = self.pipeline
        if pipeline.text_encoder is None:
            return {"prompt_embeds": torch.zeros(1, 1, pipeline.unet.config.cross_attention_dim)}
        known = inspect.signature(pipeline.encode_prompt).parameters
        wanted = {
            "prompt": prompt,
            "prompt_2": None,
            "device": self.device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": self.guidance > 1,
            "negative_prompt": negative_prompt,
        }
        parts = pipeline.encode_prompt(**{name: value for name, value in wanted.items() if name in known})
        named = zip(PROMPT_PARTS[len(parts)], parts, strict=True)
        return {name: part for name, part in named if name is not None and part is not None}


class VaeRoundTrip(DiffusionInpainter):
    """Encode and decode without a mask or a denoising step: what the autoencoder alone does to a face (a control)."""

    stochastic = False

    @torch.no_grad()
    def _repaint(self, fields: Images, masks: Masks, seeds: list[int]) -> Images:
        vae = self.pipeline.vae
        pictures = resize(fields, self.resolution).to(vae.device, vae.dtype) * 2 - 1
        output = vae.decode(vae.encode(pictures).latent_dist.mode()).sample
        return resize((output.clamp(-1, 1) / 2 + 0.5).to(fields), fields.shape[-1])
