"""`persona new`: what it asks for in a terminal, and what it says without one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.commands import Commands
from tests.waiting import PATIENCE
from tests.workbench.test_starter import ENGLISH
from workbench.persona import load_persona


def _options(answers: dict[str, str]) -> list[str]:
    return [part for key, value in answers.items() for part in (f"--{key}", value)]


def test_the_persona_is_written_and_the_next_step_named(commands: Commands, tmp_path: Path) -> None:
    output = commands.run("new", "--folder", str(tmp_path), *_options(ENGLISH))
    assert output.code == 0
    assert output.out.startswith(f"{tmp_path}/wine-friend/persona.yaml: ")
    assert f"`persona prompt --persona {tmp_path}/wine-friend` for any chat" in output.out
    assert load_persona(tmp_path / "wine-friend").name == "Sam"


def _asked(tmp_path: Path, options: dict[str, str], *typed: str) -> tuple[int, str]:
    """Return the exit code, and what a terminal showed in which ``typed`` was typed."""
    control, terminal = pty.openpty()
    command = [sys.executable, "-m", "app.cli.main", "new", "--folder", str(tmp_path)]
    asking = subprocess.Popen(
        [*command, *_options(options)],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    os.write(control, "".join(f"{line}\n" for line in typed).encode())
    output = asking.communicate(timeout=PATIENCE)[0].decode()
    os.close(control)
    os.close(terminal)
    return asking.returncode, output


def test_in_a_terminal_a_mistake_is_told_at_its_question_and_the_other_answers_stay(
    tmp_path: Path,
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/persona.yaml").write_text("id: taken\n", encoding="utf-8")
    options = {key: ENGLISH[key] for key in ("role", "audience", "address")}
    ids = ("Wine Friend", "taken", "wine-friend")
    topics = ("red wine, white wine", "red wine, white wine, food")
    code, output = _asked(
        tmp_path, options, *ids, "fr", "en", " ", "Sam", *topics, "Slowly, like a cellar."
    )
    assert code == 0, output
    mistakes = [line for line in output.splitlines() if "Error: " in line]
    assert len(mistakes) == 5, output
    for mistake, words in zip(
        mistakes,
        (
            "such as wine-friend",
            "'taken' already",
            "'fr'",
            "is blank",
            "2 topics — name at least 3",
        ),
        strict=True,
    ):
        assert words in mistake
    persona = load_persona(tmp_path / "wine-friend")
    assert (persona.language, persona.name) == ("en", "Sam")
    assert persona.voice.register_ == "Slowly, like a cellar."


def test_mistakes_of_options_are_told_together_and_before_anything_is_asked(
    commands: Commands, tmp_path: Path
) -> None:
    answers = ENGLISH | {"id": "Wine Friend", "topics": "wine, food"}
    output = commands.run("new", "--folder", str(tmp_path), *_options(answers))
    assert (output.code, output.err.count("\n")) == (2, 2)
    assert "--id: 'Wine Friend' is no identifier" in output.err
    assert "--topics: too few" in output.err


def test_without_a_terminal_what_is_missing_is_one_line(commands: Commands, tmp_path: Path) -> None:
    answers = {key: value for key, value in ENGLISH.items() if key != "role"}
    output = commands.run("new", "--folder", str(tmp_path), *_options(answers))
    assert (output.code, output.err.count("\n")) == (2, 1)
    assert "not given: --role" in output.err
    assert list(tmp_path.iterdir()) == []
