"""Anonymise the probes, attack the results, measure what is left."""

from pathlib import Path
from typing import NamedTuple

import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import LambdaCallback
from torch import nn

from veil.anonymization import Anonymization, Inpainter, Masker
from veil.attacks.attributes import attributes
from veil.attacks.campaign import Attack, campaign
from veil.attacks.controls import controls
from veil.attacks.figures import RANK1
from veil.attacks.groups import chosen_labels
from veil.attacks.material import Anonymizer, Material
from veil.attacks.realism import realism
from veil.checkpoint import refuse_another_split
from veil.config import Config, held_out
from veil.data.faces import Enrolment, FaceSet, divide, moved
from veil.data.splitfile import checksum
from veil.evaluation.results import read_results
from veil.judge import Judge
from veil.metrics.measure import NAIVE, Figure
from veil.panel import Asked, Panel, assign
from veil.pictures import as_saved, mask_pixels, save, to_pixels
from veil.progress import Stages, console
from veil.report.tables import metrics_table
from veil.store import Row, RunFolder, evaluation_folder, split_folder
from veil.tasks.conclude import Evidence, conclude, keep_rebuilt, trained_on
from veil.tasks.fit import quiet_lightning
from veil.tasks.head import embed_both
from veil.tasks.judges import available, fit_classical, other_judges
from veil.tasks.prepare import prepared
from veil.tasks.whitebox import asking_masker, enrolled_whitebox
from veil.tracking import publish
from veil.types import Faces, Images, Masks


def evaluate(config: Config) -> Path:
    """Make the run's folder, or find it; print its figures."""
    stages = Stages()
    known = split_folder(config).complete
    parts = None if known else set_up(config, stages)  # a wrong knob is told before hours of alignment
    enrolment = prepared(config, stages)
    run = evaluation_folder(config, checksum(enrolment))
    with run.claimed():
        if run.complete:
            console.print(f"Found the finished run in {run.path}", soft_wrap=True)
        else:
            run.say_what_changed()
            _make(config, run, enrolment, parts or set_up(config, stages), stages)
            name = f"{config.choices.masker}-{config.choices.inpainter}-{config.ratio:g}"
            publish(instantiate(config.logger)(name=name), run)
    results = read_results(run.path)
    console.print(metrics_table(results))
    for flag in results.flags:
        console.print(f"[bold yellow]flag[/]: {flag}")
    console.print(f"Pictures: {run.path / 'samples.png'}\nResults:  {run.path / 'results'}", soft_wrap=True)
    console.print(f"Report:   {run.path / 'report.html'}", soft_wrap=True)
    return run.path


class Parts(NamedTuple):
    """What a run is made with, as its config says."""

    masker: Masker
    inpainter: Inpainter
    device: torch.device
    recognizers: dict[str, nn.Module]  # the white box first
    missing: dict[str, str]  # judges that cannot be had, and why
    attacks: dict[str, Attack]
    controls: dict[str, Inpainter]
    features: dict[str, nn.Module]
    asked: Asked


def set_up(config: Config, stages: Stages) -> Parts:
    """Instantiate what the config names."""
    with stages.clock("set-up"):
        quiet_lightning()
        inpainter = instantiate(config.inpainter)
        device = instantiate(config.trainer).strategy.root_device
        name = config.choices.recognizer
        judges, missing = available(other_judges(config, name))
        return Parts(
            asking_masker(config, inpainter),
            inpainter,
            device,
            {name: instantiate(config.recognizer), **judges},
            missing,
            instantiate(config.attacks),
            instantiate(config.controls),
            {network: part.to(device) for network, part in instantiate(config.features).items()},
            assign(instantiate(config.metrics), name, list(judges)),
        )


def _make(config: Config, run: RunFolder, enrolment: Enrolment, parts: Parts, stages: Stages) -> None:
    """Enrol, train the head if need be; then anonymise face by face, attack and conclude."""
    masker, inpainter, device, recognizers, missing, attacks, floors, features, asked = parts
    name = config.choices.recognizer
    chosen_labels(enrolment.probes.labels, config.groups, enrolment.unlabelled)  # refused before hours of work
    for recognizer in recognizers.values():
        refuse_another_split(recognizer, enrolment)
    evaluation, attackers = divide(enrolment, config.split.attackers, config.seed, config.split.probes)
    fit_classical(recognizers, enrolment.gallery)
    clear = {
        judge: embed_both(recognizer.to(device), enrolment, config.cache, stages, judge)
        for judge, recognizer in recognizers.items()
    }
    whitebox = enrolled_whitebox(config, recognizers[name], clear[name], enrolment, stages)
    keys = [*enrolment.gallery.keys, *enrolment.probes.keys]
    known = {judge: dict(zip(keys, torch.cat(parts), strict=True)) for judge, parts in clear.items()}
    panel_judges = {judge: Judge(recognizer, known[judge]) for judge, recognizer in recognizers.items()}
    with run.writing() as folder:
        module = Anonymization(
            Panel(whitebox, name, panel_judges, asked, enrolment.people, stages),
            masker,
            inpainter,
            ratio=config.ratio,
            cells=config.cells,
            image_format=config.image_format,
            keep=Writer(run, folder, evaluation.probes, config.image_format),
            stages=stages,
            spared=config.keep,
            minimal=config.minimal is not None,
        )
        rows = _anonymize(config, run, module, evaluation.probes, stages)
        module.to(device)  # Lightning leaves it on the CPU
        results = {row["key"]: folder / row["result"] for row in rows}
        anonymizer = Anonymizer(
            lambda faces: as_saved(module(faces)[0], config.image_format),
            folder / "attacker",
            results,
            device,
            stages,
        )
        material = Material(evaluation, attackers, recognizers, known, anonymizer, name, config.seed, stages)
        findings = campaign(material, attacks, held_out(vars(config)), config.groups)
        found = [*findings.figures, *controls(material, floors, config.controls, config.cache)]
        found += realism(material, features)
        found += [Figure(RANK1, reason, subject=judge, attack=NAIVE) for judge, reason in missing.items()]
        found += attributes(material, enrolment.unlabelled) if config.attributes else []
        for row, column in zip(rows, findings.columns, strict=True):
            row |= column
        if findings.rebuilt is not None:
            keep_rebuilt(findings.rebuilt, rows, evaluation.probes, folder)
        sample = next(iter(evaluation.probes.select(range(min(len(rows), 4))).loader(4)))
        models = {f"inpainter {config.choices.inpainter}": inpainter, **recognizers}
        conclude(
            config,
            folder,
            Evidence(enrolment, evaluation, attackers, rows, asked),
            findings._replace(figures=found),
            stages,
            same_for_every_seed=module.repeats_itself(moved(sample, device)),
            trained_on={model: trained_on(part, enrolment.people, evaluation) for model, part in models.items()},
        )


def _anonymize(config: Config, run: RunFolder, module: Anonymization, probes: FaceSet, stages: Stages) -> list[Row]:
    """One row for each probe, in order; those that an earlier try finished are not done again."""
    done = {row["key"] for row in run.rows()}
    todo = probes.select(index for index, key in enumerate(probes.keys) if key not in done)
    if done:
        console.print(f"Resuming after {len(done)} of {len(probes)} faces")
    with stages.bar("anonymize", len(todo)) as advance:
        progress = LambdaCallback(on_test_batch_end=lambda *args: advance(len(args[3].keys)))
        if len(todo):
            instantiate(config.trainer, callbacks=[progress], precision="32-true").test(  # the masker's: `WhiteBox`
                module, todo.loader(config.batch_size, config.workers), verbose=False
            )
    rows = {row["key"]: row for row in run.rows()}
    return [rows[key] for key in probes.keys]


class Writer:
    """Keeps each face's files, then its row, so that a killed run loses no face and does none twice.

    Names as in the 2022 study: `{image-id}-generated-label-{class-id}.png`, and `-masks-`, `-img-`.
    """

    def __init__(self, run: RunFolder, folder: Path, probes: FaceSet, image_format: str) -> None:
        self.run, self.folder, self.image_format = run, folder, image_format
        self.numbers = dict(zip(probes.keys, probes.numbers, strict=True))
        for name in ("results", "masks", "original"):
            (folder / name).mkdir(exist_ok=True)

    def __call__(self, faces: Faces, masks: Masks, results: Images, rows: list[Row]) -> None:
        """Write a batch."""
        pictures = zip(to_pixels(faces.images), mask_pixels(masks), to_pixels(results), strict=True)
        for row, (original, mask, result) in zip(rows, pictures, strict=True):
            files = self.files(row)
            save(original, self.folder / files["original"])
            save(mask, self.folder / files["mask"])
            save(result, self.folder / files["result"])
            row |= files
        self.run.add(rows)

    def files(self, row: Row) -> dict[str, str]:
        """Where a face's pictures go; masks are always lossless."""
        number, label = self.numbers[row["key"]], row["label"]
        return {
            "original": f"original/{number}-img-label-{label}.{self.image_format}",
            "mask": f"masks/{number}-masks-label-{label}.png",
            "result": f"results/{number}-generated-label-{label}.{self.image_format}",
        }
