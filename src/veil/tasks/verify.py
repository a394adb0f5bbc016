"""How well do the white box and the judges tell people apart on clear photos? LFW's pairs protocol, and all pairs."""

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from numpy import ndarray
from rich.table import Table

from veil.attacks.figures import far_name
from veil.config import Config, InputError
from veil.data.faces import Enrolment, FaceSet
from veil.metrics.pairs import NamedPair, acceptance, accuracy, all_pairs, draw_pairs, fold_accuracies, read_pairs
from veil.metrics.verification import FARS, Pairs, verification
from veil.progress import Stages, console
from veil.recognizers.embed import clear_embeddings
from veil.store import verification_folder, write_csv
from veil.tasks.finetune import quiet_lightning
from veil.tasks.judges import available, fit_classical
from veil.tasks.prepare import prepared
from veil.tracking import publish


def verify(config: Config) -> Path:
    """Make the run's folder, or find it; print its figures."""
    run = verification_folder(config)
    with run.claimed():
        if not run.complete:
            shutil.rmtree(run.partial, ignore_errors=True)
            with run.writing() as folder:
                _make(config, folder)
            publish(instantiate(config.logger)(name=f"verify-{config.choices.data}"), run)
    figures = run.metrics()
    for flag in figures["flags"]:
        console.print(f"[bold yellow]flag[/]: {flag}")
    console.print(table(figures), f"Pairs: {run.path / 'pairs.csv'}", soft_wrap=True)
    return run.path


def _make(config: Config, folder: Path) -> None:
    stages = Stages()
    quiet_lightning()
    judges, missing = available(config.judges)
    recognizers = {config.choices.recognizer: instantiate(config.recognizer), **judges}
    device = instantiate(config.trainer).strategy.root_device
    enrolment = prepared(config, stages)
    faces = everybody(enrolment)
    people = np.array(faces.identities)
    asked = asked_pairs(config, faces)
    place = {key: index for index, key in enumerate(faces.keys)}
    pairs = [pair for pair in asked if pair.left in place and pair.right in place]
    if not pairs:
        raise InputError(f"task.pairs: none of the {len(asked)} pairs is of two photos of data={config.choices.data}")
    fit_classical(recognizers, enrolment.gallery)
    rows = [pair._asdict() for pair in pairs]
    found: dict[str, Any] = {"metrics": {}, "absent": missing, "folds": {}}
    for name, recognizer in recognizers.items():
        embedded = clear_embeddings(recognizer.to(device), faces, config.cache, stages, f"embed with {name}")
        left, right = ([place[key] for key in keys] for keys in list(zip(*pairs, strict=True))[:2])
        cosines = (embedded[left] * embedded[right]).sum(dim=1).double().numpy()
        with stages.clock("measure"):
            measure(name, pairs, cosines, len(set(people[left + right])), all_pairs(embedded, people), found)
        for row, cosine in zip(rows, cosines.tolist(), strict=True):
            row[f"cosine/{name}"] = cosine
    write_csv(rows, folder / "pairs.csv")
    counts = {
        "people": len(enrolment.people),
        "photos": len(faces),
        "not_found": enrolment.not_found,
        "quarantined": len(enrolment.unreadable),
        "pairs": len(pairs),
        "pairs_left_out": len(asked) - len(pairs),
    }
    lost = f"{len(asked) - len(pairs)} of {len(asked)} pairs have a photo without a face or not in the data"
    contents = found | {
        "flags": [lost] if len(pairs) < len(asked) else [],
        "faces": counts,
        "command": shlex.join(["python", "run.py", *HydraConfig.get().overrides.task]),
        "timings": {stage: round(seconds, 3) for stage, seconds in stages.seconds.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(contents, indent=2))


def everybody(enrolment: Enrolment) -> FaceSet:
    """Gallery and probes, in the data set's order."""
    both = enrolment.gallery.union(enrolment.probes)
    return both.select(np.argsort(both.numbers).tolist())


def asked_pairs(config: Config, faces: FaceSet) -> list[NamedPair]:
    """The official ones of `task.pairs`, or drawn ones."""
    path, folds, each = (config.task[name] for name in ("pairs", "folds", "each"))
    if folds < 2 or each < 1:
        raise InputError(f"task.folds must be at least 2 and task.each at least 1, got {folds} and {each}")
    if path is not None:
        return read_pairs(Path(path).expanduser())
    return draw_pairs(faces.keys, np.array(faces.identities), folds, each, config.seed)


def measure(
    name: str, pairs: Sequence[NamedPair], cosines: ndarray, people: int, every: Pairs, found: dict[str, Any]
) -> None:
    """Add a recogniser's figures: accuracy over the folds; TAR@FAR, EER and AUC over all pairs of photos."""
    same, fold = np.array([pair.same for pair in pairs]), np.array([pair.fold for pair in pairs])
    folds = fold_accuracies(cosines, same, fold)
    rates, accepted = verification(every), acceptance(every)
    figures = {"accuracy": accuracy(folds, len(pairs), people), "eer": rates.equal_error_rate, "auc": rates.area}
    for far in FARS:
        figure = f"tar@far={far_name(far)}"
        if far in accepted:
            figures[figure] = accepted[far]
        else:
            found["absent"][f"verification/{name}/{figure}"] = "too few impostor pairs"
    found["metrics"] |= {f"verification/{name}/{figure}": value._asdict() for figure, value in figures.items()}
    found["folds"][name] = {column: values.tolist() for column, values in folds._asdict().items()}


def table(figures: Mapping[str, Any]) -> Table:
    """Every figure with its interval and the pairs it is of; one that could not be measured with its reason."""
    shown = Table("of clear photos", "value", "95 % interval", "pairs", title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, figure in figures["metrics"].items():
        interval = f"{figure['low']:.4f} .. {figure['high']:.4f}"
        shown.add_row(name.partition("/")[2], f"{figure['value']:.4f}", interval, str(figure["n"]))
    for name, reason in figures["absent"].items():
        shown.add_row(name.partition("/")[2] or name, "absent", reason, "")
    return shown
