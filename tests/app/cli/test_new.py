"""`persona new`: what it asks for in a terminal, and what it says without one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.commands import Commands
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


def test_in_a_terminal_it_asks_and_asks_again_for_a_language_it_does_not_know(
    tmp_path: Path,
) -> None:
    options = [
        part for key, value in ENGLISH.items() if key != "language" for part in (f"--{key}", value)
    ]
    control, terminal = pty.openpty()
    command = [sys.executable, "-m", "app.cli.main", "new", "--folder", str(tmp_path)]
    asking = subprocess.Popen(
        [*command, *options], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    os.write(control, b"fr\nen\nSlowly, like a cellar.\n")
    output = asking.communicate(timeout=60)[0].decode()
    os.close(control)
    os.close(terminal)
    assert (asking.returncode, "Traceback" in output) == (0, False), output
    persona = load_persona(tmp_path / "wine-friend")
    assert (persona.language, persona.voice.register_) == ("en", "Slowly, like a cellar.")


def test_without_a_terminal_what_is_missing_is_one_line(commands: Commands, tmp_path: Path) -> None:
    answers = {key: value for key, value in ENGLISH.items() if key != "role"}
    output = commands.run("new", "--folder", str(tmp_path), *_options(answers))
    assert (output.code, output.err.count("\n")) == (2, 1)
    assert "not given: --role" in output.err
    assert list(tmp_path.iterdir()) == []
