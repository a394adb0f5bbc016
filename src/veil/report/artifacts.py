"""A run's files as W&B artifacts: what was found, by number; trained weights where the user lets them go."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from veil.evaluation.results import Results
from veil.report.names import logged_name
from veil.report.tracking import VeilWandb
from veil.storage.fingerprint import digest
from veil.storage.folders import TEXTS, RunFolder, read_manifest

PRIVATE = (*TEXTS, "seed")  # of a manifest; a face's seed is made of its key, and could confirm a guessed one
DIGESTED = ("data", "recognizer", "surrogates", "judges")
LOCAL = ("address.json", "metrics.json", "published.json")
USED = ("set", "recognizer")  # what an evaluation is of


def log_artifacts(logger: VeilWandb, run: RunFolder, results: Results) -> None:
    """Log `metrics.json` and the manifest without names and paths, with the digests of what they are of.

    Online, the anonymised set and the white box are the run's inputs, so that W&B draws who depends on what.
    """
    import wandb

    of = {name: digest(run.parts[name], 8) for name in DIGESTED if name in run.parts}
    if "set" in run.parts:
        of["set"] = run.parts["set"]  # its folder's name, which ends with its digest
    artifact = wandb.Artifact(f"results-{logger.experiment.id}", "results", metadata=of)
    _add(artifact, "metrics.json", json.dumps(_without_names(results), indent=2))
    rows = [{name: value for name, value in row.items() if name not in PRIVATE} for row in read_manifest(run.path)]
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        _add(artifact, "manifest.csv", text.getvalue())
    logger.experiment.log_artifact(artifact)
    if logger.weights and list(run.path.glob("*.safetensors")):
        log_weights(logger, run.path)
    for kind in USED:
        if kind in of and not logger.experiment.offline:
            source = wandb.Artifact(logged_name(f"{kind}_{of[kind]}"), kind)
            _add(source, "digest.json", json.dumps({kind: of[kind]}))
            logger.experiment.use_artifact(source)


def log_weights(logger: Logger | None, folder: Path) -> None:
    """Have W&B, if it is the logger, keep trained weights with their settings, not whom they were trained on."""
    if not isinstance(logger, VeilWandb):
        return
    import wandb

    artifact = wandb.Artifact(f"weights-{logger.experiment.id}", "model")
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json") and path.name not in LOCAL:
            artifact.add_file(str(path), path.relative_to(folder).as_posix())
    logger.experiment.log_artifact(artifact)


def _without_names(results: Results) -> dict[str, Any]:
    """What `metrics.json` holds, less sentences, commands and keys of photos."""
    measures = {figure.measure.name: asdict(figure.measure) for figure in results.figures.values()}
    return {
        "figures": {name: figure.to_json() for name, figure in results.figures.items()},
        "flags": [{"kind": flag.kind, "figures": flag.figures} for flag in results.flags],
        "faces": {name: len(value) if isinstance(value, list) else value for name, value in results.faces.items()},
        "timings": results.timings,
        "measures": measures,
    }


def _add(artifact: Any, name: str, text: str) -> None:
    with artifact.new_file(name) as file:
        file.write(text)
