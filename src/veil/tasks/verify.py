"""How well do the white box and the judges tell people apart on clear photos? LFW's pairs protocol, and all pairs."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from numpy import ndarray
from rich.table import Table

from veil.config import Config
from veil.data.faces import Enrolment, FaceSet, everybody
from veil.data.splitfile import checksum
from veil.errors import InputError
from veil.evaluation.results import Flag, Results, read_results, write_results
from veil.metrics.measure import Figure, Measure, by_name
from veil.metrics.pairs import Folds, NamedPair, accuracy, all_pairs, draw_pairs, fold_accuracies, read_pairs
from veil.metrics.verification import AREA, EQUAL_ERROR_RATE, TAR, Pairs, acceptance, verification
from veil.recognizers.embed import Embedder
from veil.storage.addresses import verification_folder
from veil.storage.folders import write_csv
from veil.storage.progress import Stages, console
from veil.tasks.fit import new_trainer, quiet_lightning
from veil.tasks.judges import available, other_judges
from veil.tasks.prepare import prepared
from veil.tasks.publish import log_found, tracked
from veil.tasks.whitebox import fit_classical

VERIFICATION = "verification"  # the condition of its figures
ACCURACY = Measure(
    "pair_accuracy",
    "pairs of photos told right, at the threshold that is best on the other folds",
    "privacy",
    "share",
    (0, 1),
    better="higher",
)


def verify(config: Config) -> Path:
    """Make the run's folder, or find it; print its figures."""
    stages = Stages()
    enrolment = prepared(config, stages)
    run, name = verification_folder(config, checksum(enrolment)), f"verify-{config.choices.data}"
    with run.claimed():
        if not run.complete:
            shutil.rmtree(run.partial, ignore_errors=True)
            run.say_what_changed()
            with tracked(config, run, name, stages), run.writing() as folder:
                _make(config, folder, enrolment, stages)
        else:
            log_found(config, run, name)
    results = read_results(run.path)
    for flag in results.flags:
        console.print(f"[bold yellow]flag[/]: {flag}")
    console.print(table(results), f"Pairs: {run.path / 'pairs.csv'}", soft_wrap=True)
    return run.path


def _make(config: Config, folder: Path, enrolment: Enrolment, stages: Stages) -> None:
    quiet_lightning()
    judges, missing = available(other_judges(config, config.choices.recognizer))
    recognizers = {config.choices.recognizer: instantiate(config.recognizer), **judges}
    device = new_trainer(config, devices=1).strategy.root_device
    faces = everybody(enrolment)
    people = np.array(faces.identities)
    asked = asked_pairs(config, faces)
    place = {key: index for index, key in enumerate(faces.keys)}
    pairs = [pair for pair in asked if pair.left in place and pair.right in place]
    if not pairs:
        raise InputError(f"task.pairs: none of the {len(asked)} pairs is of two photos of data={config.choices.data}")
    fit_classical(recognizers, enrolment.gallery)
    rows = [pair._asdict() for pair in pairs]
    figures = [Figure(ACCURACY, reason, subject=name, condition=VERIFICATION) for name, reason in missing.items()]
    folds = {}
    for name, recognizer in recognizers.items():
        embedded = Embedder(name, recognizer.to(device), config.cache, stages).clear(faces)
        left, right = ([place[key] for key in keys] for keys in list(zip(*pairs, strict=True))[:2])
        cosines = (embedded[left] * embedded[right]).sum(dim=1).double().numpy()
        with stages.clock("measure"):
            found, split = measure(name, pairs, cosines, len(set(people[left + right])), all_pairs(embedded, people))
        figures += found
        folds[name] = {column: values.tolist() for column, values in split._asdict().items()}
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
    flags = [Flag("pairs left out", lost)] if len(pairs) < len(asked) else []
    command = shlex.join(["python", "run.py", *HydraConfig.get().overrides.task])
    write_results(folder, Results(by_name(figures), flags, counts, command, stages.seconds, {"folds": folds}))


def asked_pairs(config: Config, faces: FaceSet) -> list[NamedPair]:
    """The official ones of `task.pairs`, or drawn ones."""
    path, folds, each = (config.task[name] for name in ("pairs", "folds", "each"))
    if folds < 2 or each < 1:
        raise InputError(f"task.folds must be at least 2 and task.each at least 1, got {folds} and {each}")
    if path is not None:
        return read_pairs(Path(path).expanduser())
    return draw_pairs(faces.keys, np.array(faces.identities), folds, each, config.seed)


def measure(
    name: str, pairs: Sequence[NamedPair], cosines: ndarray, people: int, every: Pairs
) -> tuple[list[Figure], Folds]:
    """A recogniser's figures: accuracy over the folds; TAR@FAR, EER and AUC over all pairs of photos; and the folds."""
    same, fold = np.array([pair.same for pair in pairs]), np.array([pair.fold for pair in pairs])
    folds, rates = fold_accuracies(cosines, same, fold), verification(every)
    place = {"subject": name, "condition": VERIFICATION}
    figures = [
        Figure(ACCURACY, accuracy(folds, len(pairs), people), **place),
        Figure(EQUAL_ERROR_RATE, rates.equal_error_rate, **place),
        Figure(AREA, rates.area, **place),
    ]
    figures += [Figure(TAR[far], accepted, **place) for far, accepted in acceptance(every).items()]
    return figures, folds


def table(results: Results) -> Table:
    """Every figure with its interval and the pairs it is of; one that could not be measured with its reason."""
    shown = Table("of clear photos", "value", "95 % interval", "pairs", title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for figure in results.figures.values():
        name = f"{figure.subject}/{figure.measure.name}"
        if figure.absent:
            shown.add_row(name, "absent", figure.absent, "")
        else:
            value, low, high, n = figure.interval
            shown.add_row(name, f"{value:.4f}", f"{low:.4f} .. {high:.4f}", str(n))
    return shown
