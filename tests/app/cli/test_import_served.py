"""`persona import --served`: a log becomes candidates, and each of its lines is accounted for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from rounds.layout import IMPORT_DROPS, IMPORTED
from tests.commands import Commands
from workbench.records import Example, user_prompt

TEST = "How do I warm up my shoulders before I press overhead in the morning?"
PHONE = "Call me at +1 650-253-0000, champ."


def _line(*turns: str, **response: object) -> str:
    roles = ("user", "assistant")
    chat = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    choice = {"message": chat[-1], "finish_reason": "stop", **response}
    request = {"messages": [{"role": "system", "content": "Be a coach."}, *chat[:-1]]}
    return json.dumps({"request": request, "response": {"choices": [choice]}})


LINES = [
    _line("My wrists are sore.", "Shake them out, champ."),
    _line("My wrists are sore.", "Shake them out, champ.", "And then?", "Ten slow circles."),
    _line(TEST, "Arm circles, champ."),
    _line(f"{TEST.upper()}  ", "Band pull-aparts, champ."),
    _line("Who can I call?", PHONE),
    _line("What about sleep?", "Eight ho", finish_reason="length"),
    '{"request": {"messages": [',
    _line("Is walking enough?", "It is a start, champ."),
    _line("Is walking enough?", "It is a start, champ."),
]


@pytest.fixture
def log(commands: Commands, tmp_path: Path) -> Path:
    """A log beside a first round that was split."""
    row = Example(prompt=user_prompt(TEST), answer="Circles.", topic="desk_posture")
    for name in ("train", "validation", "test"):
        commands.put(f"split/{name}.jsonl", [row] if name == "test" else [])
        commands.put(f"split/preferences-{name}.jsonl", [])
    commands.finished("split")
    (tmp_path / "run.yaml").write_text("embedder: ngrams\n", encoding="utf-8")
    log = tmp_path / "served.jsonl"
    log.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return log


def _import(commands: Commands, log: Path, *more: str) -> tuple[list[Example], Counter[str], str]:
    config = str(log.parent / "run.yaml")
    output = commands.on_round("import", "--served", str(log), "--config", config, *more, number=2)
    assert output.code == 0, output.err
    one = commands.round(2)
    drops = one.read(IMPORT_DROPS)
    assert len(drops) + len(one.read(IMPORTED)) == len(LINES)
    return one.read(IMPORTED), Counter(drop.reason for drop in drops), output.out + output.err


def test_every_line_of_a_log_is_a_candidate_or_has_a_reason(commands: Commands, log: Path) -> None:
    rows, reasons, printed = _import(commands, log)
    assert [row.source for row in rows] == ["served.jsonl:2", "served.jsonl:8"]
    assert [turn.role for turn in rows[0].prompt] == ["user", "assistant", "user"]
    assert reasons == {
        "earlier_turn": 1,
        "test_prompt": 2,
        "personal_data": 1,
        "cut_off": 1,
        "broken_json": 1,
        "exact_duplicate": 1,
    }
    assert "9 lines, 2 candidates" in printed and "served.jsonl:3, served.jsonl:4" in printed
    written = [path.read_text("utf-8") for path in commands.folder(2).rglob("*.json*")]
    assert not any("650-253" in text for text in written), "personal data is written nowhere"


def test_personal_data_is_masked_where_the_policy_says_so(commands: Commands, log: Path) -> None:
    with (log.parent / "run.yaml").open("a", encoding="utf-8") as file:
        file.write("filter: {personal_data: mask}\n")
    rows, reasons, _ = _import(commands, log)
    masked = next(row for row in rows if row.source == "served.jsonl:5")
    assert masked.answer == "Call me at [phone number], champ."
    assert not reasons["personal_data"]
    again = commands.on_round("import", "--config", str(log.parent / "run.yaml"), number=2)
    assert again.code == 0, "what the round is made of stays a log"
    assert [row.id for row in commands.round(2).read(IMPORTED)] == [row.id for row in rows]


def test_a_log_has_to_be_named(commands: Commands) -> None:
    output = commands.on_round("import", "--served")
    assert (output.code, "names no log" in output.err) == (2, True)
