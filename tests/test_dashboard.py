"""What W&B would show, read from the spec: every name in it is one that runs log."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONF, compose_config
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from veil.config import Config
from veil.errors import InputError
from veil.metrics.identification import RANKS
from veil.metrics.information import BITS
from veil.metrics.measure import WORST, name_of
from veil.report.names import logged_name
from veil.tasks.dashboard import dashboard

SWEEPS = sorted(CONF.glob("sweeps/*.yaml"))


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a tree."""
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes(child)


@pytest.fixture
def specs(small_run: Callable[..., Config]) -> dict[str, Any]:
    folder = dashboard(small_run("task=dashboard", "judges=default", "logger=wandb"))
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.mark.parametrize("name", ["workspace", "report"])
def test_both_show_frontier_curves_knobs_bars_and_faces(name: str, specs: dict[str, Any]) -> None:
    panels = [node for node in nodes(specs[name]) if "viewType" in node]
    kinds = [panel["viewType"] for panel in panels]
    assert kinds == [
        *["Scatter Plot"] * 2,
        *["Run History Line Plot"] * 3,
        "Parallel Coordinates Plot",
        *["Bar Chart"] * 3,
        "Weave",
        *["Run History Line Plot"] * 2,
    ]
    frontier = panels[0]["config"]
    assert (frontier["xAxis"], frontier["yAxis"]) == ("summary:privacy/worst/rank1/value", "summary:utility/ssim/value")
    curve = panels[4]["config"]
    assert (curve["xAxis"], curve["metrics"], curve["groupBy"]) == (
        "ratio",
        ["privacy/dlib/rank1/value"],
        "choices/masker.value",
    )
    columns = [column["accessor"] for column in panels[5]["config"]["columns"]]
    assert columns[:2] == ["config:choices/masker.value", "config:ratio.value"]
    assert "summary:utility/facenet/kid/value" in columns
    assert panels[6]["config"]["metrics"] == ["privacy/worst/rank1/value"]
    assert '"faces"' in json.dumps(panels[9])


def test_the_spec_tells_no_path(specs: dict[str, Any], tmp_path: Path) -> None:
    assert str(tmp_path) not in json.dumps(specs)


def test_an_entity_without_a_server_is_one_clear_error(
    small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veil.report.tracking.connection", lambda: (True, "no answer"))
    with pytest.raises(InputError, match=r"task.entity=us: nothing can be saved to W&B, for no answer"):
        dashboard(small_run("task=dashboard", "task.entity=us"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_what_an_agent_runs_is_a_config_of_ours(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    figures = {name_of(measure, WORST) for measure in (BITS, RANKS[1])}
    assert sweep["metric"]["name"] in {f"{logged_name(name)}/value" for name in figures}
    for last in (False, True):
        drawn = {
            name: {"value": knob["values"][-1 if last else 0] if "values" in knob else knob["max" if last else "min"]}
            for name, knob in sweep["parameters"].items()
        }
        told = create_sweep_command_args({"args": drawn}) | {"env": ["/usr/bin/env"]}
        command = []
        for part in create_sweep_command(sweep["command"]):  # as `wandb.wandb_agent.Agent._command_run` does
            macro = re.fullmatch(r"\$\{(\w+)\}", part)
            command += told[macro[1]] if macro else [part]
        assert command[:3] == ["/usr/bin/env", "python", "run.py"]
        config = compose_config(*command[3:])
        assert (config.choices.masker, config.ratio) == (drawn["masker"]["value"], drawn["ratio"]["value"])
