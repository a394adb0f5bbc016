"""What the benchmark of maskers says is what a run says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, compose_config

from veil.tasks.evaluate import evaluate

LAST = 1.0


@pytest.mark.slow
def test_curves_of_maskers_go_through_the_figures_of_runs(cache: str, tmp_path: Path) -> None:
    knobs = ["data=att", "logger=csv", f"cache={cache}", "controls=none", "attacks=default", "~attacks.linkage"]
    arguments = ["--out", tmp_path / "curves", "--maskers", "t_zone,saliency", "--inpainters", "fill"]
    for _ in range(2):  # the second finds what the first has written
        table = printed("benchmarks/maskers.py", *arguments, "--ratios", f"0.1,{LAST}", *knobs)
    run = evaluate(compose_config(*knobs, "masker=t_zone", "inpainter=fill", "ratio=0.1", f"outputs={tmp_path}"))
    measured = json.loads((run / "metrics.json").read_text())["figures"]
    found = {
        masker: json.loads((tmp_path / "curves" / f"{masker}.json").read_text()) for masker in table.split("`")[1::2]
    }
    curve = found["t_zone"]["inpainters"]["fill"]
    for name, theirs in {"cosine": "cosine", "rank1": "rank1", "accepted": "tar@far=1e-3"}.items():
        assert curve[name]["0.1"]["value"] == pytest.approx(measured[f"privacy/dlib/{theirs}"]["value"], abs=1e-6)
    for masker, passes in {"t_zone": 0, "saliency": 1}.items():
        figures = found[masker]["inpainters"]["fill"]
        assert figures["cost"]["passes"] == passes
        assert figures["cosine"][f"{LAST:g}"]["value"] == 0  # dlib finds no face in plain grey
        assert 0.1 < figures["smallest_ratio"]["value"] < LAST
        mean = (0.1 * (1 + figures["cosine"]["0.1"]["value"]) + 0.9 * figures["cosine"]["0.1"]["value"]) / 2
        assert figures["mean_cosine"]["value"] == pytest.approx(mean)
    runs, curves = (
        printed("benchmarks/masker_tables.py", kind, tmp_path / folder)
        for kind, folder in (("runs", "att"), ("curves", "curves"))
    )
    assert f"| 0.1 | `t_zone` | {measured['privacy/facenet/rank1']['value']:.2f} (" in runs
    assert f"| `t_zone` | {curve['smallest_ratio']['value']:.2f} (" in curves


def printed(*command: object) -> str:
    """What a script of the project prints."""
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
