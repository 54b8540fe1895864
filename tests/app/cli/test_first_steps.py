"""What a command says where nothing is there yet: one line at once, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rounds.models import known_arm
from tests.app.cli.test_new import _options
from tests.commands import Commands, Workspace
from tests.workbench.test_starter import ENGLISH

FROM_NOTHING = (
    ("train", "sft"),
    ("train", "dpo", "--plan"),
    ("train", "sft", "--show-tokens"),
    ("evaluate",),
    ("report",),
)


def test_what_is_missing_is_told_before_libraries_are_loaded_and_nothing_is_left(
    repo: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from app.cli.main import main\n"
        f"for one in {FROM_NOTHING}:\n"
        f"    assert main([*one, '--runs', {str(tmp_path / 'runs')!r}]) == 2, one\n"
        "    assert not {'torch', 'transformers', 'trl', 'distilabel'} & set(sys.modules), one\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(FROM_NOTHING)
    assert all(" yet — `persona " in line and " comes first" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_new_persona_without_rows_is_told_what_brings_them(
    commands: Commands, tmp_path: Path
) -> None:
    commands.run("new", "--folder", str(tmp_path), *_options(ENGLISH))
    persona = ("--persona", str(tmp_path / ENGLISH["id"]), "--runs", str(commands.runs))
    for words in (("generate",), ("run",), ("filter",), ("import",)):
        output = commands.run(*words, *persona)
        assert output.code == 2
        (line,) = output.err.splitlines()[-1:]
        assert "no rows of its own, and the round has none yet — `persona import FILE" in line
        assert not commands.runs.exists()


def test_a_refused_import_leaves_no_round_behind(commands: Commands, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"instruction": "never closed\n', encoding="utf-8")
    for file in (broken, tmp_path / "none.jsonl"):
        output = commands.on_round("import", str(file))
        assert output.code == 2
        assert not commands.folder().exists()
    commands.finished("import")
    commands.on_round("import", str(broken))
    assert commands.folder().exists(), "what was there stays"


def test_where_json_breaks_is_said_in_plain_words(commands: Commands, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"instruction": "never closed\n', encoding="utf-8")
    output = commands.on_round("import", str(broken))
    assert "Unterminated string starting at column 17" in output.err


def test_a_mistyped_command_gets_a_suggestion(commands: Commands) -> None:
    output = commands.run("rnu")
    assert (output.code, output.err) == (
        2,
        "persona: No such command 'rnu'. Did you mean 'run'?\n",
    )


def test_a_round_that_is_not_there_is_not_watched(commands: Commands) -> None:
    output = commands.on_round("watch", "--once", number=4)
    assert output.code == 2
    assert "round-004: there is no such round — `persona run " in output.err
    commands.finished("import")
    assert "there: round-001" in commands.on_round("watch", "--once", number=4).err
    assert commands.on_round("watch", "--once").code == 0


def test_an_arm_that_nobody_named_says_that_it_is_the_base(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert known_arm(workspace.context(), None).name == "base"
    assert "round-001 has no trained adapter: the base answers" in capsys.readouterr().err
    workspace.finished("sft")
    assert known_arm(workspace.context(), None).name == "sft"
    assert capsys.readouterr().err == ""
