"""From the rows of every face and what the attacks found to a run's figures, pictures and page."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hydra.core.hydra_config import HydraConfig

from veil.config import VIEW_SIZE, Config
from veil.data.faces import Enrolment, FaceSet, Side
from veil.data.known import known_people
from veil.evaluation.campaign import Findings
from veil.evaluation.flags import Training, raise_flags
from veil.evaluation.outcome import RANK1
from veil.evaluation.panel import Asked, figure_of
from veil.evaluation.results import Results, write_results
from veil.faces.pictures import save, to_pixels
from veil.metrics.intervals import people_mean
from veil.metrics.measure import Figure, by_name, name_of
from veil.metrics.needed import ratio_figures
from veil.report.page import write_page
from veil.storage.folders import Row, write_csv, write_manifest
from veil.storage.progress import Stages
from veil.types import Images


class Evidence(NamedTuple):
    """What was measured, and of whom."""

    enrolment: Enrolment
    evaluation: Side
    attackers: Side
    rows: list[Row]  # one a probe, in order
    asked: Asked  # the metrics that gave their columns


def conclude(
    config: Config,
    folder: Path,
    evidence: Evidence,
    findings: Findings,
    stages: Stages,
    *,
    same_for_every_seed: bool,
    training: Training,
    missing: int = 0,
    held_out: Sequence[str] = (),
) -> None:
    """Means, intervals, flags, pictures, the page."""
    enrolment, evaluation, attackers, rows, asked = evidence
    found = [*findings.figures, *means(rows, asked), *(ratio_figures(rows) if config.hide_at_far is not None else [])]
    figures = by_name(found)
    probed = set(enrolment.probes.identities)
    absent = {figure.subject for figure in found if figure.measure == RANK1 and figure.absent}
    flags = raise_flags(
        figures.values(),
        unchanged=sum(row["unchanged"] for row in rows),
        faces=len(rows),
        ratio=config.ratio,
        smallest=config.hide_at_far is not None,
        cells=(config.cells or VIEW_SIZE) ** 2,
        not_found=enrolment.not_found,
        single_photo=len(enrolment.people) - len(probed),
        not_held_out=[judge for judge in config.judges if judge not in held_out and judge not in absent],
        same_for_every_seed=same_for_every_seed,
        training=training,
        people=len(set(evaluation.probes.identities)),
        formats=enrolment.formats,
        inventory=enrolment.inventory,
        missing=missing,
    )
    write_manifest(folder, rows)
    if findings.groups:
        write_csv(findings.groups, folder / "groups.csv")
    faces = {
        "people": len(set(evaluation.gallery.identities)),
        "attackers": len(set(attackers.gallery.identities)),
        "gallery": len(evaluation.gallery),
        "probes": len(rows),
        "not_found": enrolment.not_found,
        "quarantined": len(enrolment.unreadable),
    }
    command = shlex.join(["python", "run.py", *HydraConfig.get().overrides.task])
    details = {
        "held_out": sorted(held_out),
        "threats": findings.threats,
        "variants": sorted(findings.variants),
        "linking": sorted(findings.linking),
    }
    write_results(folder, Results(figures, flags, faces, command, stages.seconds, details))
    np.savez_compressed(folder / "scores.npz", **findings.scores)  # type: ignore[arg-type]
    write_page(folder, originals=config.logger["originals"])


def means(rows: list[Row], asked: Asked) -> list[Figure]:
    """Each column's mean with its interval, or why there is none."""
    people = np.array([row["label"] for row in rows])
    found = []
    for subject, metrics in asked.items():
        for metric in metrics:
            column = name_of(metric.measure, subject, condition=metric.condition)
            if column not in rows[0]:
                found.append(Figure(metric.measure, "the set has no masks", subject, condition=metric.condition))
                continue
            values = np.array([np.nan if row[column] is None else row[column] for row in rows])
            interval = people_mean(values, people, metric.resamples, event=metric.measure.event)
            found.append(figure_of(metric, subject, interval))
    return found


def seen_in_training(model: object, people: list[str], evaluation: Side) -> int:
    """How many of the evaluated people a model was trained on, as far as its makers say."""
    evaluated = [people[identity] for identity in sorted(set(evaluation.probes.identities))]
    return len(known_people(evaluated, getattr(model, "training_people", frozenset())))


def keep_rebuilt(rebuild: Callable[[Images], Images], rows: list[Row], results: FaceSet, folder: Path) -> None:
    """Write the probes as the reversal makes them out, and name the files in the rows."""
    (folder / "rebuilt").mkdir(exist_ok=True)
    for index, row in enumerate(rows):
        row["rebuilt"] = f"rebuilt/{results.numbers[index]}-rebuilt-label-{row['label']}.png"
        save(to_pixels(rebuild(results[index].images))[0], folder / row["rebuilt"])
