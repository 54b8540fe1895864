"""The example notebook runs from its first cell to its last, on a round that is done already."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.loop_round import Loop

SECONDS = 1800
"""Until one cell is given up."""


@pytest.mark.slow
def test_the_notebook_runs(
    loop: Loop, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(loop.runs, runs, ignore=shutil.ignore_patterns(".argilla"))
    monkeypatch.setenv("NOTEBOOK_RUNS", str(runs))
    monkeypatch.setenv("PYTHONPATH", str(repo))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(repo / "examples/notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear its outputs"
    client = NotebookClient(
        notebook, timeout=SECONDS, resources={"metadata": {"path": str(repo / "examples")}}
    )
    client.execute()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert last.outputs[0]["text"].strip()
