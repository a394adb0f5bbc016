"""Who imports whom: down the list of rooms only, and never in a circle."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import veil
from veil.config import Config
from veil.tasks.evaluate import evaluate

ROOT = Path(veil.__file__).parent
ROOMS = (  # a module imports from its own room and from those below it
    "cli sweep api",
    "tasks",
    "training",
    "report",
    "attacks",
    "evaluation",
    "albums",
    "anonymization",
    "maskers",
    "inpainters",
    "recognizers",
    "data",
    "metrics",
    "faces",
    "storage",
    "config",
    "types errors",
)


def imports() -> dict[str, set[str]]:
    """Modules of Veil by name, and those of Veil that each imports, wherever in it."""
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    graph = {}
    for name, path in names.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = {alias.name.removeprefix("veil.") for alias in node.names if alias.name.startswith("veil.")}
                found |= modules & set(names)
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "veil":
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}".partition(".")[2]
                    found.add(inside if inside in names else inside.rpartition(".")[0])
        graph[name] = found - {name}
    return graph


HEAVY = {"diffusers", "facenet_pytorch", "pytorch_lightning", "torch", "torchmetrics", "torchvision", "transformers"}


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("veil", HEAVY | {"hydra", "numpy", "rich"}),
        ("veil.cli", HEAVY | {"numpy", "plotly", "sklearn", "wandb"}),
        ("veil.tasks.evaluate", HEAVY | {"plotly", "scipy", "sklearn", "wandb"}),  # a finished run is shown by it
        ("veil.tasks.report", HEAVY | {"matplotlib", "pandas", "plotly", "sklearn", "wandb"}),
        ("veil.api", HEAVY - {"facenet_pytorch", "torch", "torchvision"}),
        ("veil.tasks.measure", {"captum", "datasets", "diffusers", "onnxruntime", "pandas", "sklearn", "wandb"}),
    ],
)
def test_what_is_not_used_is_not_loaded(module: str, spared: set[str]) -> None:
    """Loading takes seconds: torch 2, Lightning with torchmetrics 4, diffusers 2."""
    asked = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert not spared & set(done.stdout.split())


def test_a_finished_run_loads_no_torch(small_run: Callable[..., Config]) -> None:
    quick = ("masker=random", "inpainter=fill", "attacks=none", "trainer=cpu", "ratio=0.5")
    config = small_run(*quick)
    first = evaluate(config)
    where = [f"data.root={config.data['root']}", f"cache={config.cache}", f"outputs={config.outputs}"]
    others = ["data=folder", "logger=csv", "judges=none", "controls=none", "cache_scores=false", "split.gallery=0.6"]
    overrides = [*others, *where, "split.attackers=0", *quick]
    asked = "import sys; from veil.config import compose; from veil.tasks.evaluate import evaluate; "
    asked += f"print('found', evaluate(compose(*{overrides!r})), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    _, folder, *loaded = done.stdout.splitlines()[-1].split()
    assert Path(folder) == first
    assert not HEAVY & set(loaded)


def test_every_file_that_the_docs_name_is_there() -> None:
    top = ROOT.parents[1]
    known = {path.name for folder in ("src", "tests", "benchmarks") for path in (top / folder).rglob("*.py")} | {
        "edges.py",
        "run.py",
    }
    for page in [*top.glob("*.md"), *(top / "docs").glob("*.md"), *ROOT.rglob("*.md")]:
        named = {Path(name).name for name in re.findall(r"`([\w./]+/[\w.]+\.py)`", page.read_text())}
        assert named <= known, page


def test_nothing_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_imports_go_down_the_rooms() -> None:
    place = {room: level for level, rooms in enumerate(ROOMS) for room in rooms.split()}
    upward = [
        f"{name} -> {other}"
        for name, others in imports().items()
        for other in others
        if name and other and place[name.partition(".")[0]] > place[other.partition(".")[0]]
    ]
    assert not upward
