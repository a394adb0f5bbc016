"""Train with Lightning: the best epoch, the learning curve, and going on where a killed run stopped."""

import logging
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, EarlyStopping, LambdaCallback, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from veil.config import Config
from veil.errors import InputError
from veil.metrics.identification import Comparison
from veil.recognizers.whitebox import centroids
from veil.storage.fingerprint import device_count
from veil.storage.progress import Stages
from veil.storage.stopping import watched
from veil.training.curve import Curve
from veil.training.losses import new_loss
from veil.training.people import Labelled, People
from veil.training.recipe import Fitting
from veil.training.tuning import Tuning


def fit(
    config: Config,
    recipe: Fitting,
    module: Tuning,
    data: People,
    folder: Path,
    stages: Stages,
    logger: Logger | None,
    label: str,
    **options: Any,
) -> None:
    """Train, and leave the module with the weights of the epoch of the lowest validation loss.

    `folder` keeps the curve and, until the run is complete, the last epoch, from which a killed run goes on.
    """
    quiet_lightning()
    curve, last = Curve(folder / "curve.csv"), folder / "checkpoints" / "last.ckpt"
    best = ModelCheckpoint(
        last.parent, "best", monitor="val/loss", save_weights_only=True, enable_version_counter=False
    )
    with stages.bar(label, recipe.epochs, "epochs") as advance:
        trainer = new_trainer(
            config,
            max_epochs=recipe.epochs,
            logger=logger or False,
            callbacks=[
                curve,
                EarlyStopping("val/loss", patience=recipe.patience),
                best,
                ModelCheckpoint(last.parent, "last", save_on_train_epoch_end=True, enable_version_counter=False),
                LambdaCallback(on_train_epoch_end=lambda *_: advance(1)),
            ],
            enable_checkpointing=True,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,  # each epoch's order is drawn anew
            **options,
        )
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=False)
    if torch.distributed.is_initialized():  # the helpers are done; what follows runs on one device
        torch.distributed.destroy_process_group()
    module.load_state_dict(torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"])


def fit_head(
    config: Config, clear: Comparison, people: int, folder: Path, stages: Stages, logger: Logger | None = None
) -> nn.Linear:
    """Fit a classifier of everybody who is enrolled, as `classifier=` says."""
    recipe: Fitting = instantiate(config.classifier)
    means = centroids(clear.templates, clear.enrolled, people)
    loss = new_loss(recipe.loss, means, recipe.scale, recipe.margin)
    module = Tuning(nn.Identity(), loss, len(means), recipe.learning_rate, recipe.weight_decay)
    train, probes = Labelled(clear.templates, clear.enrolled), Labelled(clear.probes, clear.probed)
    data = People(train, [probes], recipe.batch_size, config.seed)
    fit(config, recipe, module, data, folder / "head", stages, logger, "fit the head", devices=1)
    classifier: nn.Linear = loss.classifier()  # type: ignore[operator]
    return classifier.cpu()


def new_trainer(config: Config, **options: Any) -> Trainer:
    """Lightning's trainer as `trainer=` says. With one device it is alone, whatever Slurm says of tasks: what counts
    tasks of its own, in an `sbatch` script or a job of several, would be refused by Lightning.
    """
    options.setdefault("devices", device_count(config.trainer))
    if options["devices"] == 1:
        options.setdefault("plugins", [LightningEnvironment()])
        if str(config.trainer.get("strategy")).startswith("ddp"):  # of trainer=ddp, which needs several
            options.setdefault("strategy", "auto")
    elif HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError(
            "trainer.devices must be 1 in a multirun, for Lightning starts the whole command line anew for each "
            f"device that it trains on, got {options['devices']}; start one training at a time, without -m"
        )
    return instantiate(config.trainer, **options)


class Stoppable(Callback):
    """Ends on SIGTERM as without Lightning, which waits for an end of training that prediction has not."""

    def on_predict_start(self, *_: Any) -> None:
        """Undo Lightning's own handler, which calls ours where there is one."""
        if not watched():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def on_test_start(self, *_: Any) -> None:
        """The same."""
        self.on_predict_start()


def is_helper() -> bool:
    """Whether Lightning started this process for another one's GPUs."""
    return bool(getattr(rank_zero_only, "rank", 0))


def quiet_lightning() -> None:
    """Silence what Lightning says that does not apply here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # batches are small
        ".*module.s. in eval mode at the start of training.*",  # what is frozen, on purpose
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.15
        ".*Checkpoint directory .* exists and is not empty.*",  # a killed run goes on
    ):
        warnings.filterwarnings("ignore", message=message)
