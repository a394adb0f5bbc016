"""Pipelines of Stable Diffusion's own classes with a few thousand random weights, saved as diffusers saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def save_stable_diffusion(folder: Path) -> str:
    """Every part of Stable Diffusion inpainting."""
    torch.manual_seed(0)
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "face</w>", "a", "f", "c", "e"]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8)
    tiny_pipeline(text_encoder=CLIPTextModel(text).eval(), tokenizer=tokenizer).save_pretrained(folder / "pipeline")
    return str(folder / "pipeline")


def save_without_text(folder: Path) -> str:
    """Without text encoder and tokenizer, as the face model that installs with Veil."""
    torch.manual_seed(0)
    tiny_pipeline(text_encoder=None, tokenizer=None).save_pretrained(folder / "pipeline")
    return str(folder / "pipeline")


def tiny_pipeline(**parts: Any) -> StableDiffusionInpaintPipeline:
    vae = AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=9, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8, attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    return StableDiffusionInpaintPipeline(
        vae=vae, unet=unet, scheduler=DDIMScheduler(steps_offset=1), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, **parts,
    )  # fmt: skip
