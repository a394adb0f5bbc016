"""One self-contained page about a run: `report.html`, readable without network."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from veil.errors import InputError
from veil.evaluation.results import Results, column_names, read_results
from veil.metrics.identification import RANKS
from veil.metrics.measure import percent
from veil.metrics.needed import COLUMNS
from veil.metrics.privacy import COSINE
from veil.report.glossary import GLOSSARY
from veil.report.people import Columns, extremes, pictures, ranked, shows_original
from veil.report.plots import CMC, Drawing, cumulative_matches, detection_errors, distributions, enough, read_scores
from veil.report.tables import group_tables, page_tables
from veil.report.verdict import three_tests, verdict
from veil.storage.folders import Row, read_manifest


def write_page(folder: Path, *, originals: bool = False) -> Path:
    """Write `report.html` into a finished run's folder, from what lies there alone.

    About 5 MB, nearly all of it plotly.js, which is embedded once; without `scores.npz` it is left out. Score arrays
    are drawn as histograms and curves, never written out. Clear photos are shown only if `originals`.

    Raises InputError where `metrics.json` or `config.yaml` is missing.
    """
    results = read_results(folder)
    if not (folder / "config.yaml").exists():
        raise InputError(f"folder must hold a finished run, got {folder} without config.yaml")
    text = (folder / "config.yaml").read_text()
    config = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(text)))
    rows = read_manifest(folder)
    sections = _drawings(folder / "scores.npz", results)
    judge, first = _first(sections, results, config)
    ratios = _ratios(rows) if config.get("hide_at_far") else None
    here = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = templates.get_template("page.html.j2").render(
        verdict=verdict(results, config),
        threats=results.details.get("threats", {}),
        tests=three_tests(results),
        results=results,
        config=config,
        config_text=text,
        rebuilt=_command(config),
        tables=page_tables(results),
        sections=sections,
        first=first,
        first_judge=judge,
        first_drawing=first and first[0],
        shows_original=shows_original,
        originals=originals,
        ratios=ratios and (ratios, _embed(ratios, "white boxes")),
        held_out=results.held_out,
        groups=group_tables(folder / "groups.csv"),
        people=_people(folder, results, rows, config, originals=originals),
        glossary=GLOSSARY,
        percent=percent,
        plotly=Markup(get_plotlyjs()) if ratios or any(sections.values()) else None,
        megabytes=round(len(get_plotlyjs()) / 1e6, 1),
    )
    path = folder / "report.html"
    path.write_text(page)
    return path


def _drawings(path: Path, results: Results) -> dict[str, list[tuple[Drawing, Markup]]]:
    """Figures by judge, ready to embed; none where the run wrote no scores."""
    if not path.exists():
        return {}
    ranked = [figure for figure in results.figures.values() if figure.measure == RANKS[1]]
    judges = list(dict.fromkeys(figure.subject for figure in ranked if figure.subject))
    attacks = list(dict.fromkeys(figure.attack for figure in ranked if figure.attack))
    people = results.faces.get("people")
    drawn = {}
    for judge, (evidence, thresholds) in read_scores(path, judges, attacks).items():
        matches = cumulative_matches(evidence, people) if people else None
        drawings = (distributions(evidence, thresholds), matches, detection_errors(evidence))
        drawn[judge] = [(drawing, _embed(drawing, judge)) for drawing in drawings if drawing]
    return drawn


def _first(
    sections: Mapping[str, list[tuple[Drawing, Markup]]], results: Results, config: Mapping[str, Any]
) -> tuple[str, tuple[Drawing, Markup] | None]:
    """The plot beside the faces: how often a held-out judge, else the white box, names the person; None without."""
    judges = [*sorted(results.held_out), config["choices"]["recognizer"]]
    found = ((judge, part) for judge in judges for part in sections.get(judge, ()) if part[0].title == CMC)
    return next(found, ("", None))


def _ratios(rows: Sequence[Row]) -> Drawing:
    """How much of each face it took, where each has its own ratio."""
    ratios, hidden = (np.array([row[column] for row in rows]) for column in COLUMNS)
    return enough(ratios, hidden == 1)


def _embed(drawing: Drawing, judge: str) -> Markup:
    config = {"displayModeBar": False, "responsive": True}
    name = f"{drawing.title}-{judge}".replace(" ", "-").lower()  # not a random one: the same run has the same page
    return Markup(to_html(drawing.figure, config, include_plotlyjs=False, full_html=False, div_id=name))


def _people(
    folder: Path, results: Results, rows: Sequence[Row], config: Mapping[str, Any], *, originals: bool
) -> dict[str, Any]:
    """Who is protected worst and best, by held-out judges, by the white box where there is none."""
    if not rows:
        return {"missing": "manifest.csv is not in the run folder"}
    judges = results.held_out or {config["choices"]["recognizer"]}
    figures = results.figures.values()
    people = ranked(rows, Columns(*(column_names(figures, measure, judges) for measure in (RANKS[1], COSINE))))
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
