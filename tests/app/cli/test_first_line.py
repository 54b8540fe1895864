"""The first line of a command comes before the seconds that its libraries take to be imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from app.cli.main import SLOW
from tests.commands import Commands
from tests.written_rounds import written_round

ENDS_AT_ITS_FIRST_LINE = f"""
import json, os, sys
from io import TextIOWrapper

class Pipe(TextIOWrapper):
    def write(self, text):
        if text.strip():
            libraries = sorted({set(SLOW)!r} & set(sys.modules))
            os.write(1, json.dumps([text.strip(), libraries]).encode())
            os._exit(0)
        return super().write(text)

sys.stdout, sys.stderr = (Pipe(one.buffer, "utf-8") for one in (sys.stdout, sys.stderr))
from app.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        "model smollm2-135m",
        "train --recipes",
        "doctor --runs {}",
        "train sft --plan --runs {}",
        "train sft --show-tokens --runs {}",
        "train sft --runs {}",
        "chat --runs {}",
        "serve --port 18765 --runs {}",
        "compare 1 1 --runs {}",
        "next --runs {}",
        "watch --once --runs {}",
        "run --runs {}",
    ],
)
def test_no_slow_library_is_there_at_the_first_line_of_a_log(
    commands: Commands, command: str
) -> None:
    written_round(commands.folder())
    arguments = command.format(commands.runs).split()
    done = subprocess.run(
        [sys.executable, "-c", ENDS_AT_ITS_FIRST_LINE, *arguments],
        cwd=commands.repo,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    line, libraries = json.loads(done.stdout)
    assert not line.startswith("persona:"), f"a mistake ends it before anything is loaded: {line}"
    assert libraries == [], line
