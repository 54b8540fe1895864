"""A command that is shown works when it is pasted: it names its round, words quoted."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from workbench.commands import RoundOptions, changed_commands


@pytest.mark.parametrize(
    ("at", "options"),
    [
        (RoundOptions(Path("datasets/coach")), ["--persona", "datasets/coach"]),
        (
            RoundOptions(Path("my own/coach"), Path("/big disk/runs"), 3),
            ["--persona", "my own/coach", "--runs", "/big disk/runs", "--round", "3"],
        ),
    ],
)
def test_a_command_names_persona_folder_and_round(at: RoundOptions, options: list[str]) -> None:
    assert shlex.split(at.command("next --curve")) == ["persona", "next", "--curve", *options]


def test_commands_inside_a_text_are_filled_and_other_code_stays() -> None:
    at = RoundOptions(Path("d/coach"), number=2)
    text = "Add `rows.jsonl`: `persona next`, or (`persona run --seeds 3`)."
    filled = (
        "Add `rows.jsonl`: `persona next --persona d/coach --round 2`,"
        " or (`persona run --seeds 3 --persona d/coach --round 2`)."
    )
    assert at.filled(text) == filled
    assert at.filled("(`persona next`)", marks="") == "(persona next --persona d/coach --round 2)"
    assert changed_commands(text, str.upper).endswith("(`PERSONA RUN --SEEDS 3`).")
