"""Fine-tune a recogniser: a classifier on its embeddings, its last block, or all of it."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from pytorch_lightning.loggers import Logger
from torch import nn

from veil.config import Config
from veil.data.faces import Enrolment
from veil.data.known import write_people
from veil.data.splitfile import checksum
from veil.errors import InputError
from veil.evaluation.results import read_results
from veil.metrics.identification import Comparison
from veil.metrics.measure import Figure
from veil.recognizers.checkpoint import changed, split_checksum, write_checkpoint
from veil.recognizers.embed import Embedder
from veil.recognizers.whitebox import centroids
from veil.report.published import unlogged
from veil.report.tables import metrics_table
from veil.storage.addresses import head_folder, trunk_folder
from veil.storage.folders import RunFolder
from veil.storage.networks import weights_of
from veil.storage.progress import Stages, console
from veil.tasks.fit import fit, fit_head, is_helper, new_trainer, quiet_lightning
from veil.tasks.head import write_fitted
from veil.tasks.prepare import prepared
from veil.tasks.publish import log_found, tracked
from veil.tasks.setup import kind_of_devices
from veil.tasks.whitebox import fitted_head
from veil.training.clear import clear_figures, confusions, held_out_figures, nearest_figure
from veil.training.features import TrainedPart, trained_part
from veil.training.held_out import held_out_people, positions
from veil.training.losses import new_loss
from veil.training.people import Labelled, People
from veil.training.recipe import Augmentation, TrunkFitting
from veil.training.tuning import Tuning


def finetune(config: Config) -> Path:
    """Train what `task.mode` says, or find it; print its figures on clear probes."""
    recipe = read_recipe(config.task)
    stages = Stages()
    enrolment = prepared(config, stages)
    data = checksum(enrolment)
    alone = recipe.mode == "classifier"
    run = head_folder(config, data) if alone else trunk_folder(config, data, recipe.mode, recipe.loss)
    if run.complete:
        console.print(f"Found the finished run in {run.path}", soft_wrap=True)
        if unlogged(run.path, config.logger):
            with run.claimed():
                log_found(config, run, _name(config))
    else:
        run.say_what_changed()
        _make(config, recipe, run, enrolment, stages)
    if is_helper():
        return run.path
    results = read_results(run.path)
    console.print(metrics_table(results))
    for stage, seconds in results.details["seconds_per_epoch"].items():
        console.print(f"{stage}: {results.details['epochs'][stage]} epochs of {seconds:.2f} s")
    console.print(f"Checkpoint: \"recognizer.checkpoint='{run.path}'\"", soft_wrap=True)  # Hydra stumbles over a bare =
    return run.path


def read_recipe(task: dict[str, Any]) -> TrunkFitting:
    """The knobs of `conf/task/finetune.yaml`, checked."""
    knobs = {name: value for name, value in task.items() if not name.startswith("_")}
    return TrunkFitting(**knobs | {"augment": Augmentation(**knobs["augment"])})


def _make(config: Config, recipe: TrunkFitting, run: RunFolder, enrolment: Enrolment, stages: Stages) -> None:
    kind_of_devices(config)
    with stages.clock("set-up"):
        quiet_lightning()
        recognizer = instantiate(config.recognizer)
        alone = {"devices": 1, "strategy": "auto"} if recipe.mode == "classifier" else {}
        device = new_trainer(config, **alone).strategy.root_device
    if getattr(recognizer, "checkpoint", None) is not None:
        raise InputError("recognizer.checkpoint must be null for task=finetune, which begins with recognizer.weights")
    recognizer = recognizer.to(device)
    if is_helper():  # a process that Lightning started for one of several GPUs
        part = trained_part(recognizer, recipe, enrolment, config.cache, stages)
        _train(config, recipe, enrolment, part, part.embed(enrolment, device), run.partial, stages)
        return
    if recipe.mode == "classifier":
        with tracked(config, run, _name(config), stages) as logger:
            clear = Embedder(config.choices.recognizer, recognizer, config.cache, stages).both(enrolment)
            fitted_head(config, recognizer, enrolment, clear, stages, logger)
        return
    with run.claimed():
        if run.complete:  # by another process, meanwhile
            return
        with tracked(config, run, _name(config), stages) as logger, run.writing() as folder:
            _tune(config, recipe, enrolment, recognizer, device, folder, stages, logger)


def _name(config: Config) -> str:
    return f"{config.choices.data}-{config.choices.recognizer}-{config.task['mode']}"


def _tune(
    config: Config,
    recipe: TrunkFitting,
    enrolment: Enrolment,
    recognizer: nn.Module,
    device: torch.device,
    folder: Path,
    stages: Stages,
    logger: Logger | None,
) -> None:
    """Train, fit a classifier of everybody on top, measure before and after."""
    base, before = weights_of(recognizer), {name: value.clone() for name, value in recognizer.state_dict().items()}
    part = trained_part(recognizer, recipe, enrolment, config.cache, stages)
    with stages.clock("embed"):
        untouched = part.embed(enrolment, device)
    _train(config, recipe, enrolment, part, untouched, folder, stages, logger)
    with stages.clock("embed"):
        tuned = part.embed(enrolment, device)
    head = fit_head(config, tuned, len(enrolment.people), folder, stages)
    details = {"mode": recipe.mode, "base": base, "recipe": {"task": config.task, "classifier": config.classifier}}
    trunk = changed(before, recognizer.state_dict())
    held = held_out_people(enrolment.people, recipe.held_out, config.seed)
    figures = _compare(config.choices.recognizer, head, untouched, tuned, held)
    write_checkpoint(folder, head, trunk, split_checksum(enrolment), figures, details)
    write_people((person for number, person in enumerate(enrolment.people) if number not in held), folder)
    write_fitted(folder, figures, confusions(head, tuned, enrolment.people), stages)


def _compare(
    name: str, head: nn.Linear, untouched: Comparison, tuned: Comparison, held: frozenset[int]
) -> list[Figure]:
    """The tuned recogniser's figures, beside the untouched one's."""
    figures = [*clear_figures(name, head, tuned), nearest_figure("untouched", untouched)]
    for label, clear in ((name, tuned), ("untouched", untouched)):
        figures += held_out_figures(label, clear, held)
    return figures


def _train(
    config: Config,
    recipe: TrunkFitting,
    enrolment: Enrolment,
    part: TrainedPart,
    untouched: Comparison,
    folder: Path,
    stages: Stages,
    logger: Logger | None = None,
) -> None:
    """Train the part on the people who are not held out."""
    held = held_out_people(enrolment.people, recipe.held_out, config.seed)
    learning = frozenset(range(len(enrolment.people))) - held
    if len(learning) < 2:
        raise InputError(f"task.held_out={recipe.held_out} leaves {len(learning)} people to learn from; 2 are needed")
    classes = torch.tensor(sorted(learning))

    train, probes = (
        Labelled(rows, identities, positions(identities, learning), classes)
        for rows, identities in ((part.gallery, untouched.enrolled), (part.probes, untouched.probed))
    )
    validation = [probes]
    strangers = [
        Labelled(rows, identities, positions(identities, held))
        for rows, identities in ((part.gallery, untouched.enrolled), (part.probes, untouched.probed))
    ]
    if all(len(photos) for photos in strangers):
        validation += strangers
    means = centroids(untouched.templates, untouched.enrolled, len(enrolment.people))[classes]
    loss = new_loss(recipe.loss, means, recipe.scale, recipe.margin)
    module = Tuning(part.embedder, loss, len(classes), recipe.learning_rate, recipe.weight_decay, recipe.freeze_norm)
    draws = {name: getattr(recipe, name) for name in ("balance", "per_person", "variants")}
    data = People(train, validation, recipe.batch_size, config.seed, workers=config.workers, **draws)
    label, options = f"tune {recipe.mode}", {"accumulate_grad_batches": recipe.accumulate}
    fit(config, recipe, module, data, folder / recipe.mode, stages, logger, label, **options)
