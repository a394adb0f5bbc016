"""Train the small face inpainter: an autoencoder, then a diffusion model in its latents."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hydra.utils import instantiate
from numpy import ndarray
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torchvision.io import read_image

from veil.config import Config, InputError
from veil.data.crops import align
from veil.data.known import write_people
from veil.inpainters.pipeline import PACKAGED, packaged_model
from veil.progress import Stages, console
from veil.tasks.fit import quiet_lightning
from veil.training.autoencoder import AutoencoderTraining, StemFeatures, new_autoencoder, whiten
from veil.training.data import Rows, TrainingData, split_fields, write_fields, write_shards
from veil.training.diffusion import DiffusionTraining, new_scheduler, new_unet, write_model
from veil.training.samples import SampleGrid
from veil.types import Images

STAGES = ("autoencoder", "diffusion")


@dataclass
class Recipe:
    """`conf/task/train_inpainter.yaml`."""

    stages: Sequence[str]
    warm_start: str | None  # a pipeline folder, `package:face_diffusion`, or null for new weights
    size: int
    held_out: int
    shards: int
    autoencoder_steps: int
    autoencoder_batch: int
    autoencoder_rate: float
    diffusion_steps: int
    diffusion_batch: int
    diffusion_rate: float
    samples_seen: int
    average: float
    validate_every: int
    checkpoint_minutes: float

    def __post_init__(self) -> None:
        unknown = set(self.stages) - set(STAGES)
        if unknown or not self.stages:
            raise InputError(f"task.stages must be some of {STAGES}, got {self.stages}")
        if self.size % 32:
            raise InputError(f"task.size is in pixels and a multiple of 32, got {self.size}")
        if "autoencoder" not in self.stages and self.warm_start is None:
            raise InputError("task.stages without autoencoder needs task.warm_start, whose autoencoder is used")


def train_inpainter(config: Config) -> Path:
    """Train what `task.stages` names and write `model/`, a folder that `inpainter.model=<folder>` loads.

    A killed run goes on from its last checkpoint when the same command is given again.
    """
    recipe = Recipe(**{name: value for name, value in config.task.items() if not name.startswith("_")})
    folder = Path(config.outputs, "train_inpainter", config.choices.data)
    folder.mkdir(parents=True, exist_ok=True)
    quiet_lightning()
    pl.seed_everything(config.seed, workers=True)
    fields = folder / "fields.npy"
    if not fields.exists():
        _cut_fields(config, fields, recipe.size)
    train, held_out = split_fields(fields, recipe.held_out, config.seed)
    autoencoder, unet = _models(recipe)
    if "autoencoder" in recipe.stages:
        autoencoder = _train_autoencoder(config, recipe, folder, autoencoder, (train, held_out))
    if "diffusion" in recipe.stages:
        shards = [folder / f"latents-{number:03d}.npy" for number in range(recipe.shards)]
        validation = folder / "latents-validation.npy"

        def encode() -> None:
            write_shards(autoencoder, fields, train, shards, config.seed)
            write_shards(autoencoder, fields, held_out, [validation], config.seed + recipe.shards)

        module = DiffusionTraining(
            unet, new_scheduler(), recipe.diffusion_steps, recipe.diffusion_rate, samples_seen=recipe.samples_seen
        )
        data = TrainingData(encode, shards, [validation], recipe.diffusion_batch, config.workers)
        pictures = Rows([fields])
        grid = SampleGrid(autoencoder, torch.stack([pictures[row] for row in held_out[:8]]), folder / "samples")
        _fit(config, recipe, module, data, folder / "diffusion", recipe.diffusion_steps, [grid])
        console.print(f"Examples seen in all: {module.samples_seen}")
    write_model(autoencoder, unet, folder / "model")
    write_people(instantiate(config.data).people, folder / "model")
    console.print(f"Model: inpainter=face_diffusion inpainter.model={folder / 'model'}")
    return folder


def _models(recipe: Recipe) -> tuple[AutoencoderKL, UNet2DConditionModel]:
    if recipe.warm_start is None:
        return new_autoencoder(size=recipe.size), new_unet(size=recipe.size // 4)
    source = packaged_model(recipe.warm_start) if recipe.warm_start.startswith(PACKAGED) else recipe.warm_start
    return (
        AutoencoderKL.from_pretrained(source, subfolder="vae"),
        UNet2DConditionModel.from_pretrained(source, subfolder="unet"),
    )


def _cut_fields(config: Config, path: Path, size: int) -> None:
    stages = Stages()
    photos = instantiate(config.data)
    aligned = align(photos, Path(config.cache).expanduser() / "crops", stages, config.on_error)
    crops = [crop for crop in aligned.paths if crop is not None]
    console.print(f"MTCNN finds a face in {len(crops)} of {len(photos)} photos")
    with stages.bar("fields", len(crops), "faces") as advance:
        write_fields(read_crops(crops, advance), len(crops), path, size)


def read_crops(paths: Sequence[Path], advance: Callable[[int], None], batch: int = 32) -> Iterator[Images]:
    """Aligned crops in batches."""
    for start in range(0, len(paths), batch):
        pixels = [read_image(str(path)) for path in paths[start : start + batch]]
        yield torch.stack(pixels) / 255
        advance(len(pixels))


def _train_autoencoder(
    config: Config, recipe: Recipe, folder: Path, autoencoder: AutoencoderKL, rows: tuple[ndarray, ndarray]
) -> AutoencoderKL:
    stem = StemFeatures(instantiate(config.recognizer).network)
    module = AutoencoderTraining(
        autoencoder,
        stem,
        recipe.autoencoder_steps,
        decoder_only=recipe.warm_start is not None,
        rate=recipe.autoencoder_rate,
    )
    pictures = np.load(folder / "fields.npy", mmap_mode="r")
    paths = [folder / "fields-train.npy", folder / "fields-validation.npy"]

    def divide() -> None:
        for path, part in zip(paths, rows, strict=True):
            if not path.exists():
                np.save(path, pictures[part])

    data = TrainingData(divide, paths[:1], paths[1:], recipe.autoencoder_batch, config.workers)
    _fit(config, recipe, module, data, folder / "autoencoder", recipe.autoencoder_steps)
    trained = module.autoencoder.eval()
    if recipe.warm_start is None:
        first = Rows(paths[:1])
        whiten(trained, torch.stack([first[row] for row in range(min(len(first), 256))]))
    return trained


def _fit(
    config: Config,
    recipe: Recipe,
    module: pl.LightningModule,
    data: TrainingData,
    folder: Path,
    steps: int,
    callbacks: Sequence[pl.Callback] = (),
) -> None:
    """Train to `steps`, with an average of the weights, and leave the module with that average."""
    last = folder / "last.ckpt"
    keep = ModelCheckpoint(
        folder, "last", train_time_interval=timedelta(minutes=recipe.checkpoint_minutes), enable_version_counter=False
    )
    logger = instantiate(config.logger)(name=f"{config.choices.data}-{folder.name}")
    trainer = instantiate(
        config.trainer,
        max_steps=steps,
        gradient_clip_val=1.0,
        val_check_interval=recipe.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_checkpointing=True,
        enable_progress_bar=True,
        callbacks=[keep, EMAWeightAveraging(decay=recipe.average), *callbacks],
        logger=[CSVLogger(folder, name="", version="curves"), *([logger] if logger else [])],
    )
    trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=False)
    trainer.save_checkpoint(last)
    module.load_state_dict(torch.load(last, map_location="cpu", weights_only=False)["state_dict"])
