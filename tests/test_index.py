"""The page over many configs, clicked in a real browser without network."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import browse
from many_runs import NAME, make_runs

from veil.report.frontier import frontier
from veil.report.runs import candidates, read_runs
from veil.report.sweep import Options, summarise
from veil.storage.folders import read_manifest, write_manifest

LOOK = """
  const rows = () => [...document.querySelectorAll(".row")].map(row => +row.dataset.at);
  const seen = (query) => [...document.querySelectorAll(query)].filter(node => node.checkVisibility());
  const press = (query) => document.querySelector(query).dispatchEvent(new MouseEvent("click", {bubbles: true}));
  const set = (id, value, event) => {
    document.getElementById(id).value = value;
    document.getElementById(id).dispatchEvent(new Event(event));
  };
"""


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return make_runs(tmp_path / "runs", ["a", "b", "c"], (0.25, 0.5), seeds=(0, 1), people=8)


def page(folders: list[Path], output: Path, options: Options = Options()) -> Path:  # noqa: B008
    summarise(folders, output, options)
    return output / "index.html"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_pictures_come_first_tables_are_folded_and_nothing_overflows(
    folders: list[Path], tmp_path: Path, width: int, dark: bool
) -> None:
    probe = f"""() => {{ {LOOK} return {{
      first: document.querySelector("main section h2").textContent,
      faces: seen(".strip .pair img:first-child").filter(image => image.naturalWidth == 6 * 128).length,
      points: seen("#scatter .point").length,
      curves: seen("#by-ratio polyline").length,
      tables: seen("table").length,
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      ink: getComputedStyle(document.querySelector("#scatter text")).fill,
    }} }}"""
    found, console = browse(page(folders, tmp_path / "page"), tmp_path / "profile", probe, width, dark=dark)
    front = frontier(candidates(read_runs(folders)))
    assert front is not None
    expected = {"first": "Faces", "points": 6, "curves": 6, "tables": 0, "faces": 6 * min(len(front.front), 6)}
    assert {name: found[name] for name in expected} == expected
    assert found["overflow"] <= 0
    assert console == []


def test_a_click_on_a_point_shows_its_faces_and_the_slider_its_masks(folders: list[Path], tmp_path: Path) -> None:
    probe = f"""() => {{ {LOOK}
      const before = rows(), all = [0, 1, 2, 3, 4, 5], other = all.find(at => !before.includes(at)) ?? before.at(-1);
      press(`#scatter .point[data-at="${{other}}"]`);
      const row = document.querySelector(".row"), over = row.querySelector(".pair img + img");
      const cut = () => getComputedStyle(over).clipPath;
      const closed = cut();
      set("slider", 100, "input");
      const open = cut(), after = rows();
      press(".row header button");
      return {{ before, other, after, closed, open, dropped: rows(), alt: row.querySelector("img").alt,
        marked: row.classList.contains("last"), people: row.querySelectorAll("figure").length }};
    }}"""
    found, console = browse(page(folders, tmp_path / "page"), tmp_path / "profile", probe)
    assert found["after"] == [found["other"], *(at for at in found["before"] if at != found["other"])]
    assert found["dropped"] == found["after"][1:]
    assert found["marked"]
    assert found["people"] == 6
    assert re.match(r"Repainted face of person \d+, [abc], ratio 0\.", found["alt"])
    assert found["closed"] != found["open"]
    assert "100%" in found["closed"]
    assert console == []


def test_filters_and_axes_change_every_part(folders: list[Path], tmp_path: Path) -> None:
    probe = f"""() => {{ {LOOK}
      const filter = (value) => [...document.querySelectorAll("#filters button")]
        .find(button => button.textContent == value)
        .dispatchEvent(new MouseEvent("click", {{bubbles: true}}));
      const state = () => ({{
        points: seen("#scatter .point").map(point => +point.dataset.at).sort(),
        rows: rows(), volume: document.getElementById("volume").textContent,
        table: [...document.querySelectorAll("#all tr[data-at]")].filter(row => !row.hidden).length,
      }});
      const whole = state();
      filter("b");
      const some = state();
      filter("0.5");
      const single = {{...state(), curves: seen("#by-ratio").length}};
      filter("b"), filter("0.5");
      const again = state();
      const psnr = [...document.getElementById("y").options].find(option => option.textContent == "utility/psnr").value;
      set("y", psnr, "change");
      return {{ whole, some, single, again, moved: state() }};
    }}"""
    found, console = browse(page(folders, tmp_path / "page"), tmp_path / "profile", probe)
    front = frontier(candidates(read_runs(folders)))
    assert front is not None
    assert f"{len(front.front)} of 6 are not dominated" in found["whole"]["volume"]
    assert f"Hypervolume {front.volume:.3f}" in found["whole"]["volume"]  # the page's own is the files'
    assert found["some"]["points"] == [2, 3]
    assert found["some"]["table"] == 2
    assert set(found["some"]["rows"]) <= {2, 3}
    assert (found["single"]["points"], found["single"]["rows"], found["single"]["curves"]) == ([3], [3], 0)
    assert found["again"] == found["whole"]
    assert found["moved"]["volume"] != found["whole"]["volume"]
    assert console == []


def test_the_matrix_of_tests_says_what_paired_csv_does(folders: list[Path], tmp_path: Path) -> None:
    import csv

    probe = f"""() => {{ {LOOK}
      document.getElementById("tests").open = true;
      set("figure", "privacy/dlib/rank1", "change");
      set("where", "ratio 0.5", "change");
      return {{ cells: [...document.querySelectorAll("#matrix tbody tr")].map(row => [...row.cells].map(c => c.title)),
        tables: seen("table").length }};
    }}"""
    found, console = browse(page(folders, tmp_path / "page"), tmp_path / "profile", probe)
    with (tmp_path / "page" / "paired.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["figure"], row["ratio"]) == ("privacy/dlib/rank1", "0.5")]
    row = next(row for row in rows if (row["first"], row["second"]) == ("a", "c"))
    points = f"{100 * float(row['difference']):.0f}".replace("-", "\N{MINUS SIGN}")
    assert found["cells"][2][1].startswith(f"c less a: {points} points")
    assert found["tables"] == 1
    assert console == []


def embedded(path: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


def test_originals_only_when_asked_and_no_result_that_nearly_equals_one(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        rows = read_manifest(folder)
        write_manifest(folder, [row | {"utility/psnr": 45.0 if row["label"] < 4 else 20.0} for row in rows])
    faces = embedded(page(folders, tmp_path / "page"))["faces"][0]
    assert set(faces["strips"]) == {"result", "mask"}
    assert faces["hidden"] == [label < 4 for label in faces["who"]]
    assert any(faces["hidden"])
    asked = embedded(page(folders, tmp_path / "asked", Options(originals=True, people=3)))["faces"][0]
    assert set(asked["strips"]) == {"result", "mask", "original"}
    assert asked["hidden"] == [False] * 3
    assert asked["who"] == faces["who"][:3]


def test_no_name_no_path_and_nothing_from_elsewhere(folders: list[Path], tmp_path: Path) -> None:
    written = page(folders, tmp_path / "page").read_text()
    for private in (NAME, "alice", str(tmp_path)):
        assert private not in written
    assert all(link.startswith(("data:", "#")) for link in re.findall(r"(?:src|href)=\"([^\"]*)\"", written))
    assert "default-src 'none'" in written


def test_faces_are_of_the_same_people_and_the_best_configs_first(folders: list[Path], tmp_path: Path) -> None:
    data = embedded(page(folders, tmp_path / "page", Options(pictured=2)))
    pictured = [at for at, faces in enumerate(data["faces"]) if faces]
    front = frontier(candidates(read_runs(folders)))
    assert front is not None
    found = candidates(read_runs(folders))
    best = [at for at, one in enumerate(found) if one.settings in [other.settings for other in front.front]]
    assert pictured == best[:2]
    assert len({tuple(data["faces"][at]["who"]) for at in pictured}) == 1
