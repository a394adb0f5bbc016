"""Stage 2: attack an anonymised set and measure what is left. Makes the set first, if it is not there."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import LambdaCallback

from veil.anonymization.anonymized_set import AnonymizedSet
from veil.config import Config, held_out
from veil.data.faces import FaceSet
from veil.evaluation.attributes import attributes
from veil.evaluation.campaign import campaign
from veil.evaluation.controls import controls
from veil.evaluation.groups import chosen_labels
from veil.evaluation.judge import Judge
from veil.evaluation.material import Material
from veil.evaluation.module import Evaluation, Pairs
from veil.evaluation.outcome import RANK1
from veil.evaluation.panel import Panel
from veil.evaluation.realism import realism
from veil.evaluation.results import read_results
from veil.metrics.measure import NAIVE, Figure
from veil.report.loggers import publish
from veil.report.tables import metrics_table
from veil.storage.folders import Row, RunFolder, evaluation_folder
from veil.storage.progress import console
from veil.tasks.anonymize import adopted_set, anonymized_set
from veil.tasks.conclude import Evidence, conclude, keep_rebuilt, trained_on
from veil.tasks.setup import Setup
from veil.types import Faces


def evaluate(config: Config) -> Path:
    """Make the run's folder, or find it; print its figures."""
    setup = Setup(config)
    run = evaluation_folder(config, setup.place, len(setup.enrolment.unreadable))
    with run.claimed():
        if run.complete:
            console.print(f"Found the finished run in {run.path}", soft_wrap=True)
        else:
            chosen_labels(setup.sides[0].probes.labels, config.groups, setup.enrolment.unlabelled)  # or refused
            _ = setup.measuring  # a wrong knob is told before hours of repainting
            made = anonymized_set(setup) if config.anonymized is None else adopted_set(setup)
            run.say_what_changed()
            _make(setup, made, run)
            choices = run.config["choices"]
            ratio = "" if run.config["ratio"] is None else f"-{config.ratio:g}"
            publish(instantiate(config.logger)(name=f"{choices['masker']}-{choices['inpainter']}{ratio}"), run)
    results = read_results(run.path)
    console.print(metrics_table(results))
    for flag in results.flags:
        console.print(f"[bold yellow]flag[/]: {flag}")
    if config.anonymized is None:
        console.print(f"Pictures: {run.path.parent / 'samples.png'}", soft_wrap=True)
    console.print(f"Results:  {run.path.parent / 'probes' / 'results'}", soft_wrap=True)
    console.print(f"Report:   {run.path / 'report.html'}", soft_wrap=True)
    return run.path


def _make(setup: Setup, made: AnonymizedSet, run: RunFolder) -> None:
    """Measure face by face, attack, conclude."""
    config, stages, name = setup.config, setup.stages, setup.name
    recognizers, missing, features, attacks, floors, asked = setup.measuring
    enrolment, (evaluation, attackers) = setup.enrolment, setup.sides
    keys = [*enrolment.gallery.keys, *enrolment.probes.keys]
    known = {
        judge: dict(zip(keys, torch.cat(setup.clear(judge, recognizer)), strict=True))
        for judge, recognizer in recognizers.items()
    }
    done = made.rows()
    results = {key: made.path / row["result"] for key, row in done.items()}
    asked_for = len(evaluation.probes)
    evaluation, attackers = (side._replace(probes=_there(side.probes, results)) for side in (evaluation, attackers))
    with run.writing() as folder:
        material = Material(evaluation, attackers, recognizers, known, results, name, config.seed, stages, config.cache)
        panel_judges = {}
        for judge, recognizer in recognizers.items():
            seen = dict(zip(evaluation.probes.keys, material.anonymized(judge, evaluation.probes), strict=True))
            panel_judges[judge] = Judge(recognizer, known[judge], seen)
        panel = Panel(setup.whitebox, name, panel_judges, asked, enrolment.people, stages)
        masks = {key: made.path / row["mask"] for key, row in done.items() if row["mask"]}
        rows = _measure(setup, run, panel, Pairs(evaluation.probes, results, masks), done)
        panel.to(setup.device)  # Lightning leaves it on the CPU
        findings = campaign(material, attacks, held_out(asdict(config)), config.groups)
        found = [*findings.figures, *controls(material, floors, config.controls, config.cache)]
        found += realism(material, features)
        found += [Figure(RANK1, reason, subject=judge, attack=NAIVE) for judge, reason in missing.items()]
        found += attributes(material, enrolment.unlabelled) if config.attributes else []
        for row, column in zip(rows, findings.columns, strict=True):
            row |= column
        if findings.rebuilt is not None:
            keep_rebuilt(findings.rebuilt, rows, evaluation.probes, folder)
        painted_before = set(made.notes["trained_on"]) & set(evaluation.probes.identities)
        trained = {f"inpainter {made.notes['inpainter']}": len(painted_before)}
        trained |= {judge: trained_on(part, enrolment.people, evaluation) for judge, part in recognizers.items()}
        conclude(
            config,
            folder,
            Evidence(enrolment, evaluation, attackers, rows, asked),
            findings._replace(figures=found),
            stages,
            same_for_every_seed=made.notes["same_for_every_seed"],
            trained_on=trained,
            missing=asked_for - len(evaluation.probes),
        )


def _there(faces: FaceSet, results: Mapping[str, Path]) -> FaceSet:
    """Those that the set has: another tool may have left some out."""
    return faces.select(index for index, key in enumerate(faces.keys) if key in results)


def _measure(setup: Setup, run: RunFolder, panel: Panel, pairs: Pairs, made: dict[str, Row]) -> list[Row]:
    """One row for each probe, in order; those that an earlier try finished are not done again."""
    probes = pairs.faces
    done = {row["key"] for row in run.rows()}
    todo = Pairs(
        probes.select(index for index, key in enumerate(probes.keys) if key not in done), pairs.results, pairs.masks
    )

    def keep(faces: Faces, rows: list[Row]) -> None:
        for key, row in zip(faces.keys, rows, strict=True):
            files = {kind: f"../{made[key][kind]}" for kind in ("original", "mask", "result") if made[key][kind]}
            run.add([made[key] | row | files])

    if len(todo):
        config = setup.config
        with setup.stages.bar("evaluate", len(todo)) as advance:
            progress = LambdaCallback(on_test_batch_end=lambda *args: advance(len(args[3].faces.keys)))
            trainer = instantiate(config.trainer, callbacks=[progress], precision="32-true")
            trainer.test(Evaluation(panel, keep), todo.loader(config.batch_size, config.workers), verbose=False)
    rows = {row["key"]: row for row in run.rows()}
    return [rows[key] for key in probes.keys]
