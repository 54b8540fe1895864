"""The example notebook runs on a round that is done already; Colab's says commands that exist."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from pathlib import Path

import click
import nbformat
import pytest
from nbclient import NotebookClient

from app.cli.main import cli
from rounds.context import open_context
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


def _shell_lines(notebook: nbformat.NotebookNode) -> list[str]:
    """The lines of a notebook's bash cells; what a here-document holds is none."""
    lines: list[str] = []
    for cell in notebook.cells:
        head, _, rest = cell.source.partition("\n")
        if cell.cell_type == "code" and head.startswith("%%bash"):
            lines += re.sub(r"<<END\n.*?\nEND$", "", rest, flags=re.M | re.S).splitlines()
    return lines


def test_the_commands_of_the_colab_notebook_are_ours_and_their_options_too(repo: Path) -> None:
    notebook = nbformat.read(repo / "examples/colab.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear its outputs"
    commands = [
        shlex.split(part.partition("persona ")[2])
        for line in _shell_lines(notebook)
        for part in line.split("|")
        if part.strip().startswith("persona ")
    ]
    assert {words[0] for words in commands} >= {"run", "train", "chat", "export", "eject"}
    for name, *arguments in commands:
        command: click.Command = cli
        context = click.Context(cli)
        words = [name, *arguments]
        while isinstance(command, click.Group):
            command = _known(command.get_command(context, words[0]))
            words = words[1:]
        # Parsed as the command line parses them, and not run.
        command.make_context(name, words)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%bash"):
            ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.M))


def _known(command: click.Command | None) -> click.Command:
    assert command is not None
    return command


def test_the_configuration_of_the_colab_notebook_is_one(repo: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(repo / "examples/colab.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    cells = "\n".join(cell.source for cell in notebook.cells)
    (written,) = re.findall(r"cat > colab\.yaml <<END\n(.*?)\nEND\n", cells, re.S)
    config = tmp_path / "colab.yaml"
    config.write_text(written.replace("datasets/", f"{repo}/datasets/"), encoding="utf-8")
    context = open_context(config=config, runs=tmp_path / "runs")
    assert "/" in context.config.model and context.config.evaluate.probes == 2
