"""The page of a run, as files and in a real browser without network."""

import html
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browse
from omegaconf import OmegaConf
from PIL import Image

from veil.errors import InputError
from veil.evaluation.results import Flag, Results, write_results
from veil.metrics.identification import RANKS
from veil.metrics.image import PSNR
from veil.metrics.information import BITS
from veil.metrics.intervals import Interval
from veil.metrics.measure import CLEAR, WORST, Figure, by_name
from veil.metrics.privacy import COSINE
from veil.report.page import write_page
from veil.report.people import shows_original
from veil.storage.folders import read_manifest, write_csv, write_manifest

PEOPLE = 6
ORIGINAL = "secret-name"  # as in a folder of photos


def interval(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05, 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run, made by hand."""
    folder = tmp_path / "run"
    rows = []
    for number in range(2 * PEOPLE):
        files = {kind: f"{kind}/{number}.png" for kind in ("original", "mask", "result")}
        for level, file in enumerate(files.values()):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), 60 * level + number, np.uint8)).save(folder / file)
        measured = {"privacy/dlib/rank1": float(number < 3), "privacy/dlib/cosine": number / 12}
        rows.append({"key": f"{ORIGINAL}/{number}", "person": ORIGINAL, "label": number // 2, "unchanged": False})
        rows[-1] |= measured | files | {"utility/psnr": 20.0, "utility/psnr_masked": 15.0}
    write_manifest(folder, rows)
    config = {
        "ratio": 0.25, "cells": None, "seed": 0, "image_format": "png", "split": {"gallery": 0.8},
        "recognizer": {"_target_": "a"}, "judges": {"dlib": {"_target_": "b"}},
        "choices": {"task": "evaluate", "data": "att", "recognizer": "facenet", "masker": "random",
                    "inpainter": "fill"},
    }  # fmt: skip
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    figures = [
        Figure(RANKS[1], interval(0.7), WORST, source="privacy/dlib/linkage/rank1"),
        Figure(RANKS[1], interval(0.3), "dlib", "naive"),
        Figure(RANKS[1], interval(0.7), "dlib", "linkage"),
        Figure(RANKS[1], interval(0.9), "dlib", condition=CLEAR),
        Figure(RANKS[1], interval(0.9), "facenet", condition=CLEAR),
        Figure(COSINE, interval(0.5), "dlib"),
        Figure(PSNR, interval(20.0)),
        Figure(BITS, "too few people", "dlib", "naive"),
    ]
    flags = [
        Flag("wide interval", "privacy/worst/rank1 is known to +-12 points only", ("privacy/worst/rank1",)),
        Flag("other", "<b>not markup</b>"),
    ]
    faces = {"people": PEOPLE, "gallery": 18, "probes": 12, "not_found": []}
    write_results(
        folder, Results(by_name(figures), flags, faces, timings={"mask": 1.25}, details={"held_out": ["dlib"]})
    )
    generator = np.random.default_rng(0)
    scores = {"naive/dlib/thresholds": np.array([[1e-2, 0.4], [1e-3, 0.5]])}
    for faces, mean in (("clear", 0.8), ("naive", 0.3), ("linkage", 0.6)):
        scores[f"{faces}/dlib/genuine"] = generator.normal(mean, 0.1, 60)
        scores[f"{faces}/dlib/impostor"] = generator.normal(0, 0.1, 50_000)
        scores[f"{faces}/dlib/ranks"] = generator.integers(1, PEOPLE + 1, 12)
    scores["clear/facenet/ranks"] = np.ones(12)  # a judge of which little is known
    np.savez(folder / "scores.npz", **scores)
    return folder


def change(folder: Path, **changes: Any) -> None:
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def text(page: Path) -> str:
    """What a reader sees, without markup, scripts and styles."""
    body = re.sub(r"<(script|style).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body.replace("<wbr>", ""))).split())


PROBE = """() => ({
  traces: [...document.querySelectorAll(".js-plotly-plot")].map(
    plot => [...plot.querySelectorAll("svg.main-svg .scatterlayer .trace path")]
      .filter(path => path.getTotalLength() > 9).length),
  width: innerWidth,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  widest: Math.max(0, ...[...document.querySelectorAll("svg.main-svg")].map(svg => svg.getBoundingClientRect().right)),
  ink: getComputedStyle(document.querySelector("h1")).color,
  axis: getComputedStyle(document.querySelector(".xtick text") ?? document.body).fill,
  seen: [...document.querySelectorAll("main section")].filter(part => part.getBoundingClientRect().top < 900)
    .map(part => part.getAttribute("aria-labelledby")),
  tables: [...document.querySelectorAll("table")].filter(table => table.checkVisibility()).length,
})"""


@pytest.mark.parametrize(("value", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_a_browser_tests_are_skipped_and_in_ci_they_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", value)
    with pytest.raises(outcome, match="no chromium on this machine: `apt-get install chromium`"):
        browse(tmp_path / "report.html", tmp_path / "profile", PROBE)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_figure_is_drawn_without_network_or_error(folder: Path, tmp_path: Path, width: int, dark: bool) -> None:
    drawn, console = browse(write_page(folder), tmp_path / "profile", PROBE, width, dark=dark)
    # dlib: 4 distributions, two of them filled; CMC and DET: 3 curves and chance; facenet: CMC of clear, and chance
    assert drawn["traces"] == [4, 6, 4, 2]  # the held-out judge's CMC beside the faces
    assert drawn["seen"][:1] == ["people"]  # pictures first
    assert drawn["tables"] == 0  # folded
    assert drawn["width"] == width
    assert drawn["overflow"] <= 0
    assert 0 < drawn["widest"] <= width
    ink = "rgb(230, 232, 235)" if dark else "rgb(27, 29, 33)"
    assert (drawn["ink"], drawn["axis"]) == (ink, ink)  # figures follow the page
    assert console == []


def test_a_request_to_the_network_would_be_seen(folder: Path, tmp_path: Path) -> None:
    page = write_page(folder)
    page.write_text(page.read_text() + '<img src="https://example.org/a.png">')
    assert any("Content Security Policy" in line for line in browse(page, tmp_path / "profile", PROBE)[1])


def test_nothing_on_the_page_is_elsewhere_and_plotly_is_there_once(folder: Path) -> None:
    page = write_page(folder).read_text()
    assert page.count("plotly.js v") == 1
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)\"", outside)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in outside
    assert len(page) < 5.5e6  # the 50,000 impostor scores are not in it


def test_what_the_page_says(folder: Path) -> None:
    page = write_page(folder)
    said = text(page)
    assert "the worst attack (linkage on dlib) still names the person in 70 % (65 to 75 %) of photos" in said
    assert "privacy/worst/rank1 flagged" in said
    assert "absent: too few people" in said
    assert "20.0 dB" in said
    assert "Person 0 named in 100 % of 2 attempts; cosine 0.04" in said
    assert said.index("Person 4") < said.index("Best protected") < said.index("Person 2") < said.index("Person 3")
    assert "mask 1.2" in said
    assert "python run.py task=evaluate data=att" in said
    assert "cells=null" in said
    assert "Rebuilt from config.yaml" in said
    assert "Rank 1: clear 100 %; chance 16.7 %." in said
    assert "<b>not markup" not in page.read_text()
    assert ORIGINAL not in page.read_text()  # people are numbers


def test_the_commands_own_words_are_preferred(folder: Path) -> None:
    change(folder, command="python run.py masker=random masker.centre_bias=2")
    said = text(write_page(folder))
    assert "masker.centre_bias=2" in said
    assert "Rebuilt" not in said


def test_originals_only_when_asked(folder: Path) -> None:
    assert "Clear face of person" not in write_page(folder).read_text()
    assert write_page(folder, originals=True).read_text().count('alt="Clear face of person') == PEOPLE


def test_a_result_that_nearly_equals_its_original_is_not_shown(folder: Path) -> None:
    rows = read_manifest(folder)
    for row, change_ in zip(rows, ({}, {"utility/psnr": 45.0}, {"utility/psnr_masked": 35.0}, {}), strict=False):
        row |= change_
    assert [shows_original(row) for row in rows[:4]] == [False, True, True, False]
    assert shows_original(rows[0] | {"utility/psnr": None})  # infinite
    write_manifest(folder, rows)
    assert text(write_page(folder)).count("result: equals the original, or nearly, and is not shown") == 2
    assert "is not shown" not in text(write_page(folder, originals=True))


def test_what_is_missing_is_said_and_makes_the_page_small(folder: Path, tmp_path: Path) -> None:
    (folder / "scores.npz").unlink()
    (folder / "manifest.csv").unlink()
    change(folder, figures={}, flags=[], faces={}, timings={})
    page = write_page(folder)
    said = text(page)
    for missing in ("holds no scores.npz", "manifest.csv is not in", "holds no timings", "says nothing about privacy"):
        assert missing in said
    assert page.stat().st_size < 50_000
    assert browse(page, tmp_path / "profile", PROBE)[1] == []


def test_an_unfinished_run_has_no_page(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"folder must hold a finished run, got .* without config.yaml"):
        write_page(folder)


def test_headings_are_nested_and_pictures_have_words(folder: Path) -> None:
    page = write_page(folder).read_text()
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    levels = [int(level) for level in re.findall(r"<h([1-6])", outside)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all('alt="' in image for image in re.findall(r"<img[^>]*>", outside))
    assert all('scope="' in cell for cell in re.findall(r"<th[ >][^>]*", outside))
    assert outside.count('role="img" aria-label="') == 4


def test_groups_and_what_the_reversal_rebuilt_are_shown(folder: Path) -> None:
    page = write_page(folder)
    assert "Groups" not in text(page)
    assert "rebuilt" not in page.read_text().split("<main>")[1].split("reversal was run")[0]
    group = {"attack": "naive", "judge": "dlib", "label": "glasses", "low": 0.1, "high": 0.9, "photos": 6, "people": 5}
    write_csv(
        [group | {"group": "False", "rank1": 0.25}, group | {"group": "True", "rank1": 0.5}], folder / "groups.csv"
    )
    rows = read_manifest(folder)
    write_manifest(folder, [row | {"rebuilt": row["result"]} for row in rows])
    page = write_page(folder)
    said = text(page)
    assert "naive by dlib" in said
    assert said.index("glasses True 50") < said.index("glasses False 25")  # the least protected first
    assert page.read_text().count("Face that the reversal rebuilt of person") == PEOPLE


def test_how_much_each_face_took_is_drawn(folder: Path, tmp_path: Path) -> None:
    assert "How much it takes" not in text(write_page(folder))
    config = OmegaConf.load(folder / "config.yaml")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.merge(config, {"hide_at_far": 0.001})))
    rows = read_manifest(folder)
    for number, row in enumerate(rows):
        row |= {"minimal/ratio": min(0.05 * number, 0.5), "minimal/hidden": float(number <= 10)}
    write_manifest(folder, rows)
    page = write_page(folder)
    assert "half needed at most 25 %" in text(page)
    assert "91.7 % of faces could be hidden" in text(page)
    drawn, console = browse(page, tmp_path / "profile", PROBE)
    assert drawn["traces"][1] == 1  # below the faces and their plot
    assert console == []
