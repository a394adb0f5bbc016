"""One self-contained page about a run: `report.html`, readable without network."""

import csv
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from veil.config import InputError, held_out
from veil.report.curves import read_scores
from veil.report.figures import Drawing, cumulative_matches, detection_errors, distributions, enough
from veil.report.people import extremes, pictures, ranked
from veil.report.tables import group_tables, page_tables
from veil.report.verdict import verdict
from veil.report.words import GLOSSARY, percent


def write_page(folder: Path, *, originals: bool = False) -> Path:
    """Write `report.html` into a finished run's folder, from what lies there alone.

    About 5 MB, nearly all of it plotly.js, which is embedded once; without `scores.npz` it is left out. Score arrays
    are drawn as histograms and curves, never written out. Clear photos are shown only if `originals`.

    Raises InputError where `metrics.json` or `config.yaml` is missing.
    """
    for needed in ("metrics.json", "config.yaml"):
        if not (folder / needed).exists():
            raise InputError(f"folder must hold a finished run, got {folder} without {needed}")
    figures = json.loads((folder / "metrics.json").read_text())
    text = (folder / "config.yaml").read_text()
    config = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(text)))
    sections = _drawings(folder / "scores.npz", figures["faces"].get("people"))
    ratios = _ratios(folder / "manifest.csv") if config.get("minimal") else None
    here = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = templates.get_template("page.html.j2").render(
        verdict=verdict(figures, config),
        figures=figures,
        config=config,
        config_text=text,
        command=figures.get("command"),
        rebuilt=_command(config),
        tables=page_tables(figures),
        sections=sections,
        ratios=ratios and (ratios, _embed(ratios, "white boxes")),
        held_out=held_out(config),
        groups=group_tables(folder / "groups.csv"),
        people=_people(folder, config, originals=originals),
        glossary=GLOSSARY,
        percent=percent,
        plotly=Markup(get_plotlyjs()) if ratios or any(sections.values()) else None,
        megabytes=round(len(get_plotlyjs()) / 1e6, 1),
    )
    path = folder / "report.html"
    path.write_text(page)
    return path


def _drawings(path: Path, people: int | None) -> dict[str, list[tuple[Drawing, Markup]]]:
    """Figures by judge, ready to embed; none where the run wrote no scores."""
    if not path.exists():
        return {}
    drawn = {}
    for judge, (evidence, thresholds) in read_scores(path).items():
        matches = cumulative_matches(evidence, people) if people else None
        drawings = (distributions(evidence, thresholds), matches, detection_errors(evidence))
        drawn[judge] = [(drawing, _embed(drawing, judge)) for drawing in drawings if drawing]
    return drawn


def _ratios(manifest: Path) -> Drawing:
    """How much of each face it took, where each has its own ratio."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ratios, hidden = (np.array([float(row[f"minimal/{name}"]) for row in rows]) for name in ("ratio", "hidden"))
    return enough(ratios, hidden == 1)


def _embed(drawing: Drawing, judge: str) -> Markup:
    config = {"displayModeBar": False, "responsive": True}
    name = f"{drawing.title}-{judge}".replace(" ", "-").lower()  # not a random one: the same run has the same page
    return Markup(to_html(drawing.figure, config, include_plotlyjs=False, full_html=False, div_id=name))


def _people(folder: Path, config: Mapping[str, Any], *, originals: bool) -> dict[str, Any]:
    """Who is protected worst and best, by held-out judges, by the white box where there is none."""
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        return {"missing": "manifest.csv is not in the run folder"}
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    judges = held_out(config) or {config["choices"]["recognizer"]}
    people = ranked(rows, judges)
    if not people:
        return {"missing": f"manifest.csv holds no rank-1 of {', '.join(sorted(judges))}"}
    ends = zip(("Worst protected", "Best protected"), extremes(people), strict=True)
    return {
        "judges": ", ".join(sorted(judges)),
        "ends": [
            (title, [(person, pictures(folder, person.exposed, originals=originals)) for person in end])
            for title, end in ends
        ],
    }


def _command(config: Mapping[str, Any]) -> str:
    """The choices and knobs that the config names; what was turned inside a group is in config.yaml alone."""
    knobs = dict(config["choices"]) | {key: config[key] for key in ("ratio", "cells", "seed", "image_format")}
    knobs["split.gallery"] = config["split"]["gallery"]
    words = (f"{key}={'null' if value is None else value}" for key, value in knobs.items())
    return shlex.join(["python", "run.py", *words])
