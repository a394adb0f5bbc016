"""How fast is the diffusion inpainter, and where does the time go?

    python benchmarks/inpainting.py                                     # the model that installs with Veil
    python benchmarks/inpainting.py --model random:stable_diffusion --dtype bfloat16 --batch 16

`random:stable_diffusion` has Stable Diffusion 1.5's exact shape and random weights; speed does not depend on them.
The 2022 study's loop (one face after another, 50 steps, guidance 7.5 with an empty prompt) runs in the same process on
the same weights. Prints one JSON object.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.io import write_png

from veil.inpainters.diffusion import DiffusionInpainter
from veil.training.masks import draw_masks
from veil.types import CROP, Faces

TOKENS, WIDTH = 77, 768  # Stable Diffusion's prompt


def random_stable_diffusion(folder: str) -> str:
    """Stable Diffusion 1.5 inpainting without text encoder, as a folder of random weights."""
    levels = (128, 256, 512, 512)
    vae = AutoencoderKL(
        block_out_channels=levels,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * len(levels),
        up_block_types=("UpDecoderBlock2D",) * len(levels),
        sample_size=512,
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(sample_size=64, in_channels=9, out_channels=4, cross_attention_dim=WIDTH)
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae, unet=unet, scheduler=scheduler, text_encoder=None, tokenizer=None, **parts
    )
    pipeline.save_pretrained(folder)
    return folder


class Stopwatch:
    """Seconds and floating-point operations of each stage, by wrapping the networks' methods."""

    def __init__(self, inpainter: DiffusionInpainter) -> None:
        pipeline = inpainter.pipeline
        self.device, self.seconds, self.flops = inpainter.device, {}, {}
        self.counting = False
        self.wrap(pipeline.vae, "encode", "encode")
        self.wrap(pipeline.vae, "decode", "decode")
        self.wrap(pipeline.unet, "forward", "denoise")

    def wrap(self, owner: object, method: str, stage: str) -> None:
        call = getattr(owner, method)
        self.seconds[stage] = self.flops[stage] = 0.0

        def timed(*args, **kwargs):
            if self.counting:
                with FlopCounterMode(display=False) as counter:
                    result = call(*args, **kwargs)
                self.flops[stage] += counter.get_total_flops()
                return result
            start = self.now()
            result = call(*args, **kwargs)
            self.seconds[stage] += self.now() - start
            return result

        setattr(owner, method, timed)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def stage(self, name: str):
        start = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the best square matrix product: what the machine gives, not what its data sheet says."""
    best = 0.0
    for size in (2048, 4096) if device.type == "cpu" else (4096, 8192, 16384):
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for _ in range(5):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            left @ right
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def measure(inpainter: DiffusionInpainter, faces: Faces, masks: torch.Tensor) -> dict:
    """Repaint, write, and account for every second."""
    few = Faces(*(part[: inpainter.batch_size] for part in faces))
    inpainter(few, masks[: inpainter.batch_size])  # warm-up: caches, compilation, kernels' choice
    watch = Stopwatch(inpainter)
    if inpainter.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(inpainter.device)
    start = watch.now()
    painted = inpainter(faces, masks)
    inpainting = watch.now() - start
    network = sum(watch.seconds.values())
    with tempfile.TemporaryDirectory() as folder, watch.stage("write"):
        for key, image in zip(faces.keys, painted.mul(255).round().byte().cpu(), strict=True):
            write_png(image, str(Path(folder, f"{key}.png")))
    seconds = dict(watch.seconds)
    watch.counting = True
    inpainter(few, masks[: inpainter.batch_size])
    per_face = {stage: flops / len(few.keys) for stage, flops in watch.flops.items()}
    peak = matmul_peak(inpainter.device, inpainter.pipeline.unet.dtype)
    rate = per_face["denoise"] * len(faces.keys) / seconds["denoise"]
    return {
        "faces": len(faces.keys),
        "batch": inpainter.batch_size,
        "faces_per_second": len(faces.keys) / inpainting,
        "seconds_per_face": inpainting / len(faces.keys),
        "seconds": seconds | {"outside_the_network": inpainting - network},
        "share_outside_the_network": (inpainting - network) / inpainting,
        "gflop_per_face": {stage: flops / 1e9 for stage, flops in per_face.items()},
        "matmul_peak_gflops": peak / 1e9,
        "denoise_share_of_peak": rate / peak,
        "peak_memory_gib": peak_memory(inpainter.device),
    }


def peak_memory(device: torch.device) -> float:
    """GiB: allocated on the GPU, or the whole process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def study_2022(make: Callable[..., DiffusionInpainter], faces: Faces, masks: torch.Tensor, count: int) -> dict:
    """The study's loop: the guidance's second pass changes nothing, and is paid for."""
    inpainter = make(steps=50, batch_size=1)
    pipeline, prompt = inpainter.pipeline, inpainter.prompt["prompt_embeds"]
    inpainter.guidance, inpainter.prompt = 7.5, {"prompt_embeds": prompt, "negative_prompt_embeds": prompt}
    part = Faces(*(part[:count] for part in faces))
    inpainter(Faces(*(part[:1] for part in faces)), masks[:1])
    start = time.perf_counter()
    inpainter(part, masks[:count])
    if inpainter.device.type == "cuda":
        torch.cuda.synchronize(inpainter.device)
    seconds = time.perf_counter() - start
    return {"faces": count, "faces_per_second": count / seconds, "scheduler": type(pipeline.scheduler).__name__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:face_diffusion")
    parser.add_argument("--scheduler", default="EulerAncestralDiscreteScheduler")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--study-faces", type=int, default=4)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--field", type=float, default=1.2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = random_stable_diffusion(folder) if args.model == "random:stable_diffusion" else args.model

        def make(**options) -> DiffusionInpainter:
            own = args.model == "package:face_diffusion"  # whose default it is
            inpainter = DiffusionInpainter(model, dtype=args.dtype, field=args.field, match_border=own, **options)
            if args.model == "random:stable_diffusion":
                inpainter.prompt = {"prompt_embeds": torch.zeros(1, TOKENS, WIDTH)}
            return inpainter

        generator = torch.Generator().manual_seed(0)
        images = torch.rand(args.faces, 3, CROP, CROP, generator=generator)
        seeds = torch.arange(args.faces)
        faces = Faces(images, seeds, seeds, tuple(str(seed) for seed in seeds.tolist()))
        masks = draw_masks(args.faces, generator)
        options = {"scheduler": args.scheduler, "steps": args.steps, "batch_size": args.batch, "compile": args.compile}
        result = vars(args) | {"inpainter": measure(make(**options), faces, masks)}
        result["study_2022"] = study_2022(make, faces, masks, args.study_faces)
    result["speedup"] = result["inpainter"]["faces_per_second"] / result["study_2022"]["faces_per_second"]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
