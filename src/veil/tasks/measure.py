"""Measure an anonymised set: made first where it is not there, then looked at face by face, then attacked."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.callbacks import LambdaCallback

from veil.anonymization.anonymized_set import AnonymizedSet
from veil.config import Config
from veil.data.faces import FaceSet, Side
from veil.data.known import people_are_listed
from veil.evaluation.attributes import attributes
from veil.evaluation.campaign import Findings, campaign
from veil.evaluation.controls import controls
from veil.evaluation.flags import Training
from veil.evaluation.groups import chosen_labels
from veil.evaluation.material import Material
from veil.evaluation.module import AnonymizedFaces, Evaluation
from veil.evaluation.outcome import RANK1
from veil.evaluation.panel import PICTURE, Asked, Panel, columns_of, taken_by
from veil.evaluation.realism import realism
from veil.faces.landmarks import POINTS, LandmarkVectors
from veil.metrics.measure import NAIVE, Figure, name_of
from veil.recognizers.embed import Embedder
from veil.report.names import run_name
from veil.storage.addresses import NOT_OF_ROWS, evaluation_folder
from veil.storage.fingerprint import code, settings
from veil.storage.folders import Row, RunFolder, read_manifest
from veil.storage.progress import Stages
from veil.tasks.anonymize import made_set
from veil.tasks.conclude import Evidence, conclude, keep_rebuilt, seen_in_training
from veil.tasks.devices import alone, refuse_other_code, spread
from veil.tasks.fit import Stoppable, new_trainer, quiet_lightning
from veil.tasks.judges import Judging
from veil.tasks.publish import log_found, tracked

KINDS = ("original", "mask", "result")  # a row's files


def made_evaluation(config: Config) -> RunFolder:
    """The evaluation of this config, made unless another process has made it meanwhile."""
    setup = Judging(config)
    run = evaluation_folder(config, setup.place, len(setup.enrolment.unreadable), list(setup.judges[1]))
    with run.claimed():
        if not run.complete:
            chosen_labels(setup.sides[0].probes.labels, config.subgroups, setup.enrolment.unlabelled)  # or refused
            _ = setup.measuring  # a wrong knob is told before hours of repainting
            if not setup.place.path.exists():
                _ = setup.controls
            with tracked(config, run, run_name(config), setup.stages):
                made = made_set(setup)
                run.say_what_changed()
                _make(setup, made, run)
        else:
            log_found(config, run, run_name(config))
    return run


class Shown(NamedTuple):
    """The people of an evaluation, as far as the set has pictures of them."""

    evaluation: Side
    attackers: Side
    missing: int  # probes without a picture


def _make(setup: Judging, made: AnonymizedSet, run: RunFolder) -> None:
    """Measure face by face, attack, conclude."""
    done = made.rows()
    people = _people(setup, done)
    material = _material(setup, made, people)
    with run.writing() as folder:
        rows = _measure(setup, run, material, made)
        findings = _found(setup, material)
        for row, column in zip(rows, findings.columns, strict=True):
            row |= column
        if findings.rebuild is not None:
            keep_rebuilt(findings.rebuild, rows, material.anonymize(people.evaluation.probes), folder)
        conclude(
            setup.config,
            folder,
            Evidence(setup.enrolment, people.evaluation, people.attackers, rows, setup.measuring.asked),
            findings,
            setup.stages,
            same_for_every_seed=made.notes["same_for_every_seed"],
            training=_trained(setup, made, people.evaluation),
            missing=people.missing,
            held_out=setup.held_out,
        )


def _people(setup: Judging, done: Mapping[str, Row]) -> Shown:
    """Whom the set shows: another tool may have left some out."""
    asked = len(setup.sides[0].probes)
    evaluation, attackers = (side._replace(probes=_there(side.probes, done)) for side in setup.sides)
    return Shown(evaluation, attackers, asked - len(evaluation.probes))


def _material(setup: Judging, made: AnonymizedSet, people: Shown) -> Material:
    keys = [*setup.enrolment.gallery.keys, *setup.enrolment.probes.keys]
    judges = setup.measuring.judges
    known = {
        name: dict(zip(keys, torch.cat(judge.both(setup.enrolment)), strict=True)) for name, judge in judges.items()
    }
    rows, config = made.rows(), setup.config
    results = {key: made.path / row["result"] for key, row in rows.items()}
    masks = {key: made.path / row["mask"] for key, row in rows.items() if row["mask"]}
    return Material(
        people.evaluation,
        people.attackers,
        judges,
        known,
        results,
        masks,
        setup.name,
        config.seed,
        setup.stages,
    )


def _found(setup: Judging, material: Material) -> Findings:
    """What attacks, controls and feature networks say."""
    config, measuring = setup.config, setup.measuring
    findings = campaign(material, measuring.attacks, setup.held_out, config.subgroups)
    found = [*findings.figures, *controls(material, lambda: setup.controls, config.controls, config.cache)]
    found += realism(material, measuring.features)
    found += [Figure(RANK1, reason, judge, NAIVE) for judge, reason in measuring.missing.items()]
    found += attributes(material, setup.enrolment.unlabelled) if config.attribute_classifiers else []
    return findings._replace(figures=found)


def _trained(setup: Judging, made: AnonymizedSet, evaluation: Side) -> Training:
    """Of the models that took part, how many of the evaluated people each was trained on, as far as lists say."""
    painted_before = set(made.notes["trained_on"]) & set(evaluation.probes.identities)
    painter = f"inpainter {made.notes['inpainter']}"
    trained, listed = {painter: len(painted_before)}, {painter: made.notes["people_listed"]}
    for name, judge in setup.measuring.judges.items():
        trained[name] = seen_in_training(judge.network, setup.enrolment.people, evaluation)
        listed[name] = people_are_listed(judge.network)
    return Training(trained, [name for name, known in listed.items() if not known])


def _there(faces: FaceSet, done: Mapping[str, Row]) -> FaceSet:
    return faces.select(index for index, key in enumerate(faces.keys) if key in done)


def _measure(setup: Judging, run: RunFolder, material: Material, made: AnonymizedSet) -> list[Row]:
    """One row for each probe, in order; what an earlier try, or another evaluation of the set, found is kept."""
    probes, files = material.evaluation.probes, made.rows()
    done = {row["key"] for row in run.rows()}
    todo = probes.select(index for index, key in enumerate(probes.keys) if key not in done)
    known, asked = measured_before(run, todo.keys, setup.measuring.asked, setup.name)
    means = RunningMeans(asked)

    def keep(rows: list[Row]) -> None:
        for row in rows:
            paths = {kind: f"../{files[row['key']][kind]}" for kind in KINDS if files[row["key"]][kind]}
            run.add([files[row["key"]] | known.get(row["key"], {}) | row | paths])
            setup.stages.means |= means.after(row)

    if not asked:
        keep([{"key": key} for key in todo.keys])
    elif len(todo):
        panel = _panel(setup, material, asked)
        with setup.stages.bar("evaluate", len(todo)) as advance:
            if len(setup.devices) > 1 and len(todo) > setup.config.batch_size:
                look = partial(_look_at_share, run.parts, panel, material.results, material.mask_files)
                spread(setup.config, setup.devices, look, todo, keep, advance, setup.stages)
            else:
                shown = AnonymizedFaces(todo, material.results, material.mask_files)
                _look(alone(setup.config), panel(setup.stages), shown, keep, advance)
        setup.whitebox.to(setup.device)  # Lightning leaves the classifier on the CPU
    rows = {row["key"]: row for row in run.rows()}
    return [rows[key] for key in probes.keys]


def _look(
    config: Config,
    panel: Panel,
    shown: AnonymizedFaces,
    keep: Callable[[list[Row]], None],
    advance: Callable[[int], None],
) -> None:
    quiet_lightning()
    progress = LambdaCallback(on_test_batch_end=lambda *args: advance(len(args[3].faces.keys)))
    trainer = new_trainer(config, callbacks=[progress, Stoppable()], precision="32-true")
    trainer.test(Evaluation(panel, keep), shown.loader(config.batch_size, config.workers), verbose=False)


def _look_at_share(
    parts: Mapping[str, Any],
    panel: Callable[[Stages], Panel],
    results: Mapping[str, Path],
    masks: Mapping[str, Path],
    config: Config,
    faces: FaceSet,
    keep: Callable[[list[Row]], None],
) -> dict[str, float]:
    """In a process of its own: look at these faces; gives the seconds of its stages."""
    now = {"code": code("veil.tasks.measure"), "metrics": settings(config.metrics, config.cache)}
    refuse_other_code(all(parts[name] == part for name, part in now.items()))
    stages = Stages()
    _look(config, panel(stages), AnonymizedFaces(faces, results, masks), keep, lambda _: None)
    return stages.seconds


class RunningMeans:
    """Of what matters most, over the faces so far: what is told while a run goes."""

    def __init__(self, asked: Asked) -> None:
        self.counts = {
            name_of(metric.measure, subject, condition=metric.condition): 0
            for subject, metrics in asked.items()
            for metric in metrics
            if metric.measure.prominence == 3
        }
        self.means: dict[str, float] = {}

    def after(self, row: Row) -> dict[str, float]:
        """The means with one more face."""
        for name in self.counts:
            if row.get(name) is not None:
                self.counts[name] += 1
                before = self.means.get(name, 0.0)
                self.means[name] = before + (row[name] - before) / self.counts[name]
        return self.means


def measured_before(run: RunFolder, keys: Sequence[str], asked: Asked, whitebox: str) -> tuple[dict[str, Row], Asked]:
    """What another evaluation of the same set found of these faces, by key; and what is still to be asked.

    A row depends on the pictures and on each judge alone, not on the other judges, the attacks or the controls.
    """
    for folder, parts in run.finished_beside():
        if any(parts.get(name) != part for name, part in run.parts.items() if name not in NOT_OF_ROWS):
            continue
        theirs = {name: judge for name, judge in parts["judges"].items() if name not in parts["absent"]}
        same = {PICTURE, whitebox} | {name for name, judge in run.parts["judges"].items() if theirs.get(name) == judge}
        rows = {row["key"]: row for row in read_manifest(folder)}
        columns = [name for subject in same & set(asked) for name in columns_of(subject, asked[subject], whitebox)]
        if set(keys) <= set(rows):
            known = {key: {name: rows[key][name] for name in columns if name in rows[key]} for key in keys}
            return known, {subject: metrics for subject, metrics in asked.items() if subject not in same}
    return {}, asked


def _panel(setup: Judging, material: Material, asked: Asked) -> Callable[[Stages], Panel]:
    """What makes the panel, here or in a device's process: its detectors cannot be sent there."""
    probes = material.evaluation.probes
    seen = {
        judge: {
            "embeddings": dict(zip(probes.keys, material.clear(judge, probes), strict=True)),
            "anonymized_embeddings": dict(zip(probes.keys, material.anonymized(judge, probes), strict=True)),
            "anonymized_found": dict(zip(probes.keys, material.found(judge, probes), strict=True)),
        }
        for judge in material.recognizers
    }
    if "landmarks" in taken_by(asked):
        points = Embedder("landmarks", LandmarkVectors(), setup.config.cache, setup.stages).clear(probes)
        seen[PICTURE] = {"landmarks": dict(zip(probes.keys, points.double().unflatten(1, (POINTS, 2)), strict=True))}
    return partial(Panel, setup.whitebox.head, setup.name, seen, asked, setup.enrolment.people)
