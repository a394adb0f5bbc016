"""Anonymise the probes, attack the results, measure what is left."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from pytorch_lightning.callbacks import LambdaCallback
from torchmetrics import MetricCollection

from veil.anonymization import Anonymization
from veil.attacks.campaign import Findings, campaign
from veil.attacks.material import Anonymizer, Material
from veil.checkpoint import refuse_another_split
from veil.config import VIEW_SIZE, Config
from veil.data.faces import Enrolment, FaceSet, Side, divide, enrol
from veil.judge import Judge
from veil.metrics.flags import raise_flags
from veil.metrics.intervals import PeopleMean, people_mean
from veil.panel import Panel, assign
from veil.pictures import as_saved, mask_pixels, sample_sheet, save, to_pixels
from veil.progress import Stages, console
from veil.recognizers.whitebox import WhiteBox, centroids
from veil.report.page import write_page
from veil.report.tables import metrics_table
from veil.store import Row, RunFolder, evaluation_folder, write_csv
from veil.tasks.fit import quiet_lightning
from veil.tasks.head import embed_both, fitted_head
from veil.tasks.judges import available, fit_classical
from veil.tracking import publish
from veil.types import Faces, Images, Masks

SAMPLES = 8  # people shown in samples.png


def evaluate(config: Config) -> Path:
    """Make the run's folder, or find it; print its figures."""
    run = evaluation_folder(config)
    with run.claimed():
        if run.complete:
            console.print(f"Found the finished run in {run.path}", soft_wrap=True)
        else:
            _make(config, run)
            name = f"{config.choices.masker}-{config.choices.inpainter}-{config.ratio:g}"
            publish(instantiate(config.logger)(name=name), run)
    figures = run.metrics()
    console.print(metrics_table(figures))
    for flag in figures["flags"]:
        console.print(f"[bold yellow]flag[/]: {flag}")
    console.print(f"Pictures: {run.path / 'samples.png'}\nResults:  {run.path / 'results'}", soft_wrap=True)
    console.print(f"Report:   {run.path / 'report.html'}", soft_wrap=True)
    return run.path


def _make(config: Config, run: RunFolder) -> None:
    """Load, enrol, train the head if need be; then anonymise face by face, attack and conclude."""
    stages = Stages()
    with stages.clock("set-up"):
        quiet_lightning()
        photos = instantiate(config.data)
        device = instantiate(config.trainer).strategy.root_device
        masker, inpainter = instantiate(config.masker), instantiate(config.inpainter)
        name, attacks = config.choices.recognizer, instantiate(config.attacks)
        judges, missing = available(config.judges)
        recognizers = {name: instantiate(config.recognizer), **judges}
        asked = assign(instantiate(config.metrics), name, list(judges))
    enrolment = enrol(photos, config.split.gallery, config.seed, config.cache, stages)
    for recognizer in recognizers.values():
        refuse_another_split(recognizer, enrolment)
    evaluation, attackers = divide(enrolment, config.split.attackers, config.seed)
    fit_classical(recognizers, enrolment.gallery)
    clear = {
        judge: embed_both(recognizer.to(device), enrolment, config.cache, stages, judge)
        for judge, recognizer in recognizers.items()
    }
    head = fitted_head(config, recognizers[name], enrolment, clear[name], stages)
    enrolled, people = torch.tensor(enrolment.gallery.identities), enrolment.people
    keys = [*enrolment.gallery.keys, *enrolment.probes.keys]
    known = {judge: dict(zip(keys, torch.cat(parts), strict=True)) for judge, parts in clear.items()}
    panel_judges = {
        judge: Judge.of(recognizer, known[judge], evaluation, len(people)) for judge, recognizer in recognizers.items()
    }
    whitebox = WhiteBox(recognizers[name], head, centroids(clear[name].gallery, enrolled, len(people)))
    with run.writing() as folder:
        module = Anonymization(
            Panel(whitebox, name, panel_judges, asked, people, stages),
            masker,
            inpainter,
            ratio=config.ratio,
            cells=config.cells,
            image_format=config.image_format,
            keep=Writer(run, folder, evaluation.probes, config.image_format),
            stages=stages,
        )
        rows = _anonymize(config, run, module, evaluation.probes, stages)
        results = {row["key"]: folder / row["result"] for row in rows}
        anonymizer = Anonymizer(
            lambda faces: as_saved(module(faces)[0], config.image_format),
            folder / "attacker",
            results,
            device,
            stages,
        )
        material = Material(evaluation, attackers, recognizers, known, anonymizer, name, config.seed, stages)
        findings = campaign(material, attacks)
        for row, column in zip(rows, findings.columns, strict=True):
            row |= column
        _conclude(
            config,
            folder,
            enrolment,
            (evaluation, attackers),
            rows,
            asked,
            findings._replace(absent=findings.absent | missing),
            stages,
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
            instantiate(config.trainer, callbacks=[progress]).test(
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


def _conclude(
    config: Config,
    folder: Path,
    enrolment: Enrolment,
    sides: tuple[Side, Side],
    rows: list[Row],
    asked: Mapping[str, MetricCollection],
    findings: Findings,
    stages: Stages,
) -> None:
    """Means, intervals, flags, pictures, the page."""
    evaluation, attackers = sides
    figures, absent = dict(findings.metrics), dict(findings.absent)
    people = np.array([row["label"] for row in rows])
    metrics = {name: metric for collection in asked.values() for name, metric in collection.items()}
    for name, metric in sorted(metrics.items()):
        assert isinstance(metric, PeopleMean)
        values = np.array([np.nan if row[name] is None else row[name] for row in rows])
        interval = people_mean(values, people, metric.resamples)
        if interval is None:
            absent[name] = metric.undefined
        else:
            figures[name] = interval
    figures = dict(sorted(figures.items()))
    probed = set(enrolment.probes.identities)
    flags = raise_flags(
        figures,
        unchanged=sum(row["unchanged"] for row in rows),
        faces=len(rows),
        ratio=config.ratio,
        cells=(config.cells or VIEW_SIZE) ** 2,
        not_found=enrolment.not_found,
        single_photo=len(enrolment.people) - len(probed),
        not_held_out=[judge for judge, settings in config.judges.items() if settings == config.recognizer],
    )
    write_csv(rows, folder / "manifest.csv")
    shown = _one_a_person(rows)
    paths = [[folder / row[kind] for row in shown] for kind in ("original", "mask", "result")]
    sample_sheet(*paths).save(folder / "samples.png")
    contents = {
        "metrics": {name: interval._asdict() for name, interval in figures.items()},
        "flags": flags,
        "absent": absent,
        "faces": {
            "people": len(set(evaluation.gallery.identities)),
            "attackers": len(set(attackers.gallery.identities)),
            "gallery": len(evaluation.gallery),
            "probes": len(rows),
            "not_found": enrolment.not_found,
        },
        "command": shlex.join(["python", "run.py", *HydraConfig.get().overrides.task]),
        "timings": {stage: round(seconds, 3) for stage, seconds in stages.seconds.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(contents, indent=2))
    np.savez_compressed(folder / "scores.npz", **findings.scores)  # type: ignore[arg-type]
    write_page(folder, originals=config.logger["originals"])


def _one_a_person(rows: list[Row]) -> list[Row]:
    """The first probe of `SAMPLES` people spread over the data set."""
    first = list({row["label"]: row for row in reversed(rows)}.values())[::-1]
    step = max(len(first) // SAMPLES, 1)
    return first[::step][:SAMPLES]
