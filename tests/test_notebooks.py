"""The notebooks run from top to bottom, show pictures, define nothing, and hold no outputs in git."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def test_both_of_the_studys_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["celeba_data_processing", "facenet_finetuning"]


def test_outputs_are_stripped(notebook: Any) -> None:
    nbformat.validate(notebook)
    for cell in code(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_nothing_is_defined(notebook: Any) -> None:
    for cell in code(notebook):
        lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
        tree = ast.parse("\n".join(lines))
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
        assert not [node for node in ast.walk(tree) if isinstance(node, kinds)]


def test_it_runs_and_shows_pictures(
    notebook: Any, photos: Path, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    (parameters,) = (cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", []))
    assert "data=att" in parameters.source
    where = ["data=folder", f"data.root={photos}", f"cache={cache}", f"outputs={tmp_path}"]
    parameters.source = f"overrides = {[*where, 'logger=csv', 'trainer=cpu', 'split.gallery=0.6']}"
    client = NotebookClient(notebook, timeout=240, kernel_name="python3")
    client.execute(cwd=str(ROOT / "notebooks"))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 3
    text = "".join(output.get("text", "") for output in outputs)
    assert "30 photos of 6 people" in text or "was fine-tuned on the split" in text
