"""Veil as others install it: the wheel in a bare environment, its command in another folder."""

import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, program

LAUNCHER = """
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore

class Loud(BasicLauncher):
    def launch(self, job_overrides, initial_job_idx):
        print("launching", len(job_overrides))
        return super().launch(job_overrides, initial_job_idx)

ConfigStore.instance().store(group="hydra/launcher", name="loud", node={"_target_": "hydra_plugins.loud.Loud"})
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python and `veil` of an environment that has Veil's wheel, and finds the other packages where the tests do."""
    place = tmp_path_factory.mktemp("installed")
    environment, uv = place / "environment", program("uv", install="`pip install uv` brings it")
    build = [uv, "build", "--quiet", "--wheel", "--out-dir", place, ROOT]
    if subprocess.run([*build, "--offline"], check=False).returncode != 0:  # uv's cache has what built Veil, mostly
        subprocess.run(build, check=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", environment / "bin" / "python"]
    subprocess.run([*install, *place.glob("*.whl")], check=True)
    (packages,) = environment.glob("lib/*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # .pth files in there are not followed
    return environment / "bin"


@pytest.fixture
def run(programs: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one of these programs in an empty folder."""

    def call(name: str, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        command = [programs / name, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return call


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["masker=nope"], ["ratio=25"]])
def test_the_command_says_what_run_py_says(run: Callable, tmp_path: Path, arguments: list[str]) -> None:
    here = subprocess.run([sys.executable, "run.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    there = run("veil", *arguments)
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
    theirs, ours = ([line for line in done.stderr.splitlines() if "file://" not in line] for done in (there, here))
    assert theirs == ours  # but for the folder of the choices
    assert not list(tmp_path.iterdir())


def test_the_wheel_has_choices_version_and_types(run: Callable) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import veil
        from veil.config import compose, conf_folder
        package = Path(veil.__file__).parent
        assert package.is_relative_to(sys.prefix)
        assert conf_folder() == package / "conf"
        assert (package / "py.typed").exists()
        print(compose("seed=3").seed, veil.__version__)
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = run("python", "-c", code)
    assert done.stdout == f"3 {version}\n", done.stderr


def test_importing_veil_is_quick() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import veil; veil.__version__"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "| torch" not in told
    (microseconds,) = re.findall(r"\| +(\d+) \| veil$", told, flags=re.MULTILINE)
    assert int(microseconds) < 200_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_runs_in_another_folder(run: Callable, cache: str, tmp_path: Path) -> None:
    done = run("veil", "masker=saliency", "ratio=0.25", f"cache={cache}")
    assert done.returncode == 0, done.stderr
    (measured,) = tmp_path.glob("outputs/att/saliency/face_diffusion/ratio=0.25/*/evaluation-*/metrics.json")
    assert json.loads(measured.read_text())["figures"]["check/coverage"]["value"] == 0.25


@pytest.mark.slow
def test_a_sweep_runs_in_another_folder_by_a_launcher_that_is_a_plugin(
    run: Callable, photos: Path, cache: str, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins" / "hydra_plugins"
    plugins.mkdir(parents=True)
    (plugins / "loud.py").write_text(LAUNCHER)
    few = ("data=folder", f"data.root={photos}", f"cache={cache}", "judges=none", "controls=none", "attacks=none")
    sweep = ("-m", "hydra/launcher=loud", "masker=random", "ratio=0.25,0.5", "inpainter=fill", "logger=csv", *few)
    done = run("veil", *sweep, path=plugins.parent)
    assert done.returncode == 0, done.stderr
    assert "launching 2" in done.stdout
    (summary,) = tmp_path.glob("outputs/sweeps/*/summary.csv")
    with summary.open(newline="") as file:
        assert [row["ratio"] for row in csv.DictReader(file)] == ["0.25", "0.5"]
