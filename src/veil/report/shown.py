"""The faces of a run that W&B is shown: by number, and none that nearly equals an original unless originals may go."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from veil.evaluation.results import Results, column_names
from veil.faces.pictures import shows
from veil.metrics.identification import RANKS
from veil.metrics.privacy import COSINE
from veil.report.names import logged_names
from veil.report.tracking import VeilWandb
from veil.storage.folders import Row, read_manifest

IMAGES = 8  # of each kind
FACES = 64  # in the table


def log_pictures(logger: VeilWandb, folder: Path) -> None:
    """A few faces, spread over the people."""
    rows = _spread(read_manifest(folder), IMAGES)
    for kind in _kinds(logger):
        paths = [str(folder / row[kind]) for row in rows if _may_go(logger, folder, row, kind)]
        if paths:
            logger.log_image(f"pictures/{kind}", paths)  # no names


def log_faces(logger: VeilWandb, folder: Path, results: Results) -> None:
    """A table with a row a face: the person's number, pictures, cosine and rank-1 under each judge and attack."""
    import wandb

    rows = _spread(read_manifest(folder), FACES)
    if not rows:
        return
    figures = results.figures.values()
    subjects = {figure.subject for figure in figures}
    measured = [name for measure in (COSINE, RANKS[1]) for name in column_names(figures, measure, subjects)]
    measured = [name for name in measured if name in rows[0]]
    kinds = _kinds(logger)
    names = logged_names(["person", *kinds, "achieved", *measured])
    table = wandb.Table(columns=list(names.values()))
    for row in rows:
        pictures = [
            wandb.Image(str(folder / row[kind])) if _may_go(logger, folder, row, kind) else None for kind in kinds
        ]
        table.add_data(row["label"], *pictures, *(row.get(name) for name in ("achieved", *measured)))
    logger.experiment.log({"faces": table})


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most so many rows, evenly over all."""
    return list(rows[:: -(-len(rows) // count)]) if rows else []


def _kinds(logger: VeilWandb) -> list[str]:
    return ["result", *(["mask"] if logger.masks else []), *(["original"] if logger.originals else [])]


def _may_go(logger: VeilWandb, folder: Path, row: Row, kind: str) -> Any:
    """Whether there is such a picture, and it shows no original against the user's will."""
    if kind != "result" or logger.originals:
        return row[kind]
    mask = folder / row["mask"] if row["mask"] else None
    return row["result"] and not shows(folder / row["original"], folder / row["result"], mask)
