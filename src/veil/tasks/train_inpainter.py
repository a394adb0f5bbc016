"""Train the small face inpainter: an autoencoder, a diffusion model in its latents, then an adversary that sharpens."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hydra.utils import instantiate
from numpy import ndarray
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger, Logger

from veil.config import Config
from veil.data.known import read_people
from veil.data.photos import Photos
from veil.errors import InputError
from veil.faces.crops import alignment
from veil.inpainters.pipeline import quiet
from veil.report.artifacts import log_weights
from veil.storage.atomic import whole
from veil.storage.folders import RunFolder
from veil.storage.networks import weights_of
from veil.storage.packages import packaged_model
from veil.storage.progress import console
from veil.tasks.fields import cut_fields, identity
from veil.tasks.fit import is_helper, new_trainer, quiet_lightning
from veil.tasks.publish import tracked
from veil.tasks.setup import kind_of_devices
from veil.training.adversary import ADVERSARY_SHAPES, AdversarialTraining
from veil.training.autoencoder import AutoencoderTraining, StemFeatures, new_autoencoder, whiten
from veil.training.callbacks import Average, Keep, Pace, SampleGrid
from veil.training.data import Rows, TrainingData, split_fields, write_middles
from veil.training.diffusion import DiffusionTraining, new_scheduler, new_unet, write_model
from veil.training.examples import Drawing, Examples
from veil.training.jitter import middle
from veil.training.recipe import Recipe
from veil.training.schedule import Progress, by_steps
from veil.types import Images

WARM_UP = 200  # steps
STANDARD = 128  # examples by which the critic standardises features
MODEL = ("warm_start", "new_unet", "channels", "attention", "size", "autoencoder_steps")
DECIDED = (*MODEL, "aligned", "held_out")  # what a run that is gone on with cannot change


@dataclass
class Run:
    """What the stages share."""

    config: Config
    recipe: Recipe
    folder: Path
    rows: tuple[ndarray, ndarray] = (np.empty(0, int), np.empty(0, int))  # of the fields: to train on, and held out

    @property
    def fields(self) -> Path:
        """Fields with room, one a face."""
        return self.folder / "fields.npy"

    def pictures(self, rows: ndarray) -> Images:
        """The fields of these rows, without their room."""
        return middle(torch.from_numpy(np.load(self.fields, mmap_mode="r")[rows]))

    def shown(self, autoencoder: AutoencoderKL, name: str) -> SampleGrid:
        """Eight held-out faces, repainted at each validation."""
        return SampleGrid(autoencoder, self.pictures(self.rows[1][:8]), self.folder / name)


def train_inpainter(config: Config) -> Path:
    """Train what `task.stages` and `task.adversary_minutes` say and write `model/` for `inpainter.model=<folder>`.

    A killed run goes on from its last checkpoint when the same command is given again; with more minutes or diffusion
    steps, a complete one does, and its adversary stage begins anew. Raises InputError where the folder holds a run on
    other photos or from other weights.
    """
    recipe = Recipe(**{name: value for name, value in config.task.items() if not name.startswith("_")})
    kind_of_devices(config)
    _refuse_several_clocks(config, recipe)
    run = Run(config, recipe, Path(config.outputs, "train_inpainter", config.choices.data))
    run.folder.mkdir(parents=True, exist_ok=True)
    quiet_lightning()
    pl.seed_everything(config.seed, workers=True)
    photos = instantiate(config.data)
    autoencoder, unet = _models(recipe)
    _begin(run, photos, autoencoder, unet)
    if "autoencoder" in recipe.stages:
        autoencoder = _train_autoencoder(run, autoencoder)
    if "diffusion" in recipe.stages:
        unet = _train_unet(run, autoencoder, unet)
    if is_helper():
        return run.folder
    if recipe.adversary_minutes:
        unet = _sharpen(run, autoencoder, unet)
    before = read_people(packaged_model(recipe.warm_start)) if recipe.warm_start else frozenset()
    with quiet():
        write_model(autoencoder, unet, run.folder / "model", photos.people, before)
    if config.logger.get("weights"):
        with _tracked(run, run.folder, "model") as logger:
            log_weights(logger, run.folder / "model")
    console.print(f"Model: inpainter=face_diffusion inpainter.model={run.folder / 'model'}")
    return run.folder


def _tracked(run: Run, folder: Path, name: str) -> AbstractContextManager[Logger | None]:
    """A logger of what is done in a folder; the same there is gone on with, not that of other outputs."""
    config, parts = run.config, {"outputs": str(run.folder.resolve())}
    work = RunFolder(config.outputs, folder.relative_to(config.outputs), asdict(config), parts)
    return tracked(config, work, f"{config.choices.data}-{name}", publishes=False)


def _refuse_several_clocks(config: Config, recipe: Recipe) -> None:
    """Raise InputError where each device would have a learning rate by its own clock."""
    devices = config.trainer.get("devices", "auto")
    by_clock = "diffusion" in recipe.stages and recipe.schedule == "cosine" and recipe.minutes is not None
    if by_clock and devices != 1:
        raise InputError(
            f"task.schedule=cosine with task.minutes needs trainer.devices=1, got {devices}; "
            "use schedule=constant or minutes=null"
        )


def _begin(run: Run, photos: Photos, autoencoder: AutoencoderKL, unet: UNet2DConditionModel) -> None:
    """Cut and divide the fields, and keep in `begun.json` of what; or see that the run here was begun with the same.

    Raises InputError where it was not, or where a run of an earlier version left no `begun.json`.
    """
    path, advice = run.folder / "begun.json", "give another outputs=, or remove that folder"
    begun = json.loads(path.read_text()) if path.exists() else {}
    decided = _decided(run, autoencoder, unet) | identity(photos, begun)
    if begun:
        for name, value in decided.items():
            if name != "stamps" and begun.get(name) != value:
                reason = f"{run.folder} holds a run that was begun with {name}={begun.get(name)}, got {value}"
                raise InputError(f"{reason}; {advice}")
    elif [*run.folder.glob("*/last.ckpt"), *run.folder.glob("fields-*.npy")]:
        raise InputError(f"{run.folder} holds a run that does not say what it was begun with; {advice}")
    if not (begun and run.fields.exists()):
        cut_fields(run.config, photos, run.recipe.aligned, run.fields, run.recipe.size)
    run.rows = split_fields(run.fields, run.recipe.held_out, run.config.seed)
    if begun != decided:
        with whole(path) as partial:
            partial.write_text(json.dumps(decided, indent=2))


def _decided(run: Run, autoencoder: AutoencoderKL, unet: UNet2DConditionModel) -> dict[str, Any]:
    """What a run is begun with beside its photos, as JSON has it; warm-started weights by content."""
    decided = {f"task.{name}": getattr(run.recipe, name) for name in DECIDED}
    decided |= {"seed": run.config.seed, "data": run.config.data, "alignment": alignment().decode()}
    if run.recipe.warm_start is not None:
        warm = [autoencoder] if run.recipe.new_unet else [autoencoder, unet]
        decided["weights"] = [weights_of(network) for network in warm]
    return json.loads(json.dumps(decided))


def _models(recipe: Recipe) -> tuple[AutoencoderKL, UNet2DConditionModel]:
    fresh = new_unet(recipe.channels, size=recipe.size // 4, attention=recipe.attention)
    if recipe.warm_start is None:
        return new_autoencoder(size=recipe.size), fresh
    source = packaged_model(recipe.warm_start)
    with quiet():
        autoencoder = AutoencoderKL.from_pretrained(source, subfolder="vae").float()
        if recipe.new_unet:
            return autoencoder, fresh
        return autoencoder, UNet2DConditionModel.from_pretrained(source, subfolder="unet").float()


def _train_autoencoder(run: Run, autoencoder: AutoencoderKL) -> AutoencoderKL:
    recipe = run.recipe
    stem = StemFeatures(instantiate(run.config.recognizer).network)
    module = AutoencoderTraining(
        autoencoder,
        stem,
        recipe.autoencoder_steps,
        decoder_only=recipe.warm_start is not None,
        rate=recipe.autoencoder_rate,
    )
    paths = [run.folder / "fields-train.npy", run.folder / "fields-validation.npy"]

    def divide() -> None:
        for path, part in zip(paths, run.rows, strict=True):
            write_middles(run.fields, part, path)

    data = TrainingData(divide, paths[:1], paths[1:], recipe.autoencoder_batch, run.config.workers)
    options = {"max_steps": recipe.autoencoder_steps, "gradient_clip_val": 1.0}
    _fit(run, module, data, "autoencoder", [Average(recipe.average)], **options)
    trained = module.autoencoder.eval()
    if recipe.warm_start is None:
        first = Rows(paths[:1])
        whiten(trained, torch.stack([first[row] for row in range(min(len(first), 256))]))
    return trained


def _train_unet(run: Run, autoencoder: AutoencoderKL, unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The diffusion stage: the average of the weights."""
    recipe, seed = run.recipe, run.config.seed
    clock = None if recipe.minutes is None else _clock(recipe.minutes)
    module = DiffusionTraining(
        unet,
        new_scheduler(),
        recipe.diffusion_rate,
        WARM_UP,
        _progress(recipe, clock),
        recipe.dtype,
        seed,
        recipe.samples_seen,
    )
    if recipe.compile:
        module.unet.compile()
    drawing = Drawing(run.fields, autoencoder, seed=seed, dtype=recipe.dtype)
    data = Examples(drawing, *run.rows, recipe.diffusion_batch, recipe.shard, recipe.reuse, run.folder / "diffusion")
    callbacks = [run.shown(autoencoder, "samples"), Pace(console.print, "diffusion"), Average(recipe.average)]
    steps = recipe.diffusion_steps if clock is None else -1
    _fit(
        run,
        module,
        data,
        "diffusion",
        [*callbacks, *([clock] if clock else [])],
        max_steps=steps,
        gradient_clip_val=1.0,
    )
    console.print(f"Examples seen in all: {module.samples_seen}")
    return module.unet


def _sharpen(run: Run, autoencoder: AutoencoderKL, unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The adversary stage, on one device: the mean of the weights before and after."""
    recipe, seed = run.recipe, run.config.seed + 1  # other examples than the diffusion stage's
    drawing = Drawing(run.fields, autoencoder, ADVERSARY_SHAPES, seed, recipe.dtype)
    some = np.random.default_rng(seed).permutation(run.rows[0])[:STANDARD]
    examples = drawing(some, torch.Generator().manual_seed(seed))
    module = AdversarialTraining(
        unet.cpu(),
        new_scheduler(),
        examples,
        recipe.adversary_alone,
        recipe.adversary_rate,
        dtype=recipe.dtype,
        seed=seed,
    )
    name = f"adversary-{weights_of(unet)[:8]}"  # what was sharpened before diffusion went on is of no use
    batch = 2 * recipe.adversary_batch  # as many to paint as photos to compare with
    data = Examples(drawing, *run.rows, batch, recipe.shard, recipe.reuse, run.folder / name)
    callbacks = [run.shown(autoencoder, f"samples-{name}"), Pace(console.print, "adversary")]
    _fit(run, module, data, name, [*callbacks, _clock(recipe.adversary_minutes)], max_steps=-1, devices=1)
    module.blend()
    return module.unet


def _clock(minutes: float) -> Timer:
    """Ends a stage when it has been trained for so long, all runs of it together."""
    return Timer(timedelta(minutes=minutes), verbose=False)


def _progress(recipe: Recipe, clock: Timer | None) -> Progress | None:
    if recipe.schedule == "constant":
        return None
    if clock is None or recipe.minutes is None:
        return by_steps(recipe.diffusion_steps, WARM_UP)
    seconds = recipe.minutes * 60
    return lambda _: min(1.0, clock.time_elapsed() / seconds)


def _fit(
    run: Run,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    name: str,
    callbacks: Sequence[pl.Callback],
    **options: Any,
) -> None:
    """Train until steps or a clock end it, and leave the module with the weights that are to be kept."""
    config, folder = run.config, run.folder / name
    last = folder / "last.ckpt"
    settings = {
        "val_check_interval": run.recipe.validate_every,
        "check_val_every_n_epoch": None,
        "max_epochs": -1,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": True,
        "enable_progress_bar": True,
        "benchmark": True,  # of convolutions on a GPU: every batch has the same shape
        "callbacks": [*callbacks, Keep(last, run.recipe.checkpoint_minutes)],
    }
    with _tracked(run, folder, name) as logger:
        loggers = [CSVLogger(folder, name="curves"), *([logger] if logger else [])]
        trainer = new_trainer(config, **settings | options, logger=loggers)
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=False)
    module.load_state_dict(torch.load(last, map_location="cpu", weights_only=False)["state_dict"])
    if torch.distributed.is_initialized():  # the helpers are done; what follows runs on one device
        torch.distributed.destroy_process_group()
