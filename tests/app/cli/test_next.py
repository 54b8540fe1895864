"""`persona next`: the page or JSON that it prints, and the round that it takes by itself."""

from __future__ import annotations

import json

from tests.commands import Commands
from tests.written_rounds import written_round


def test_the_last_evaluated_round_is_planned_from(commands: Commands) -> None:
    written_round(commands.folder(1))
    written_round(commands.folder(2), missed={"why": 16})
    output = commands.run("next", "--rows", "8", "--quick", "--runs", str(commands.runs))
    assert output.code == 0
    assert "Planned from round-002." in output.out
    assert output.out.splitlines()[-1] == str(commands.folder(3) / "next.md")
    assert (commands.folder(3) / "config.yaml").exists()


def test_json_is_what_the_round_holds(commands: Commands) -> None:
    written_round(commands.folder())
    output = commands.on_round("next", "--json")
    written = json.loads((commands.folder(2) / "next.json").read_text("utf-8"))
    assert json.loads(output.out) == written
    assert (written["round"], written["next"]) == ("round-001", "round-002")


def test_mistakes_are_one_line(commands: Commands) -> None:
    nothing = commands.run("next", "--runs", str(commands.runs))
    assert (nothing.code, nothing.err.count("\n")) == (2, 1)
    assert "no round has been evaluated" in nothing.err
    written_round(commands.folder(1))
    written_round(commands.folder(2))
    begun = commands.on_round("next")
    assert (begun.code, begun.err.count("\n")) == (2, 1)
    assert "round-002 has begun already" in begun.err
