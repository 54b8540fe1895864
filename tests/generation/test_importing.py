from __future__ import annotations

import json
from pathlib import Path

import pytest

from generation.importing import MOST_ERRORS, import_rows
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.records import Message, as_messages

ROW = {"instruction": "How deep?", "output": "To the chair, champ."}
TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "How deep?"},
    {"role": "assistant", "content": "To the chair."},
    {"role": "user", "content": "And then?"},
]
ANSWER = {"role": "assistant", "content": "Up again."}


def write(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def lines_of(path: Path, persona: Persona | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        import_rows(path, persona)
    return [line.replace(str(path.parent) + "/", "") for line in caught.value.lines()]


def test_instruction_rows_carry_their_line_and_the_persona(
    tmp_path: Path, persona: Persona
) -> None:
    path = write(tmp_path, ROW, "", {**ROW, "output": " 발목부터 풀자. ", "topic": "squat"})
    first, second = import_rows(path, persona).examples
    assert (first.source, second.source) == ("rows.jsonl:1", "rows.jsonl:3")
    assert first.parents == (persona.record_id,)
    assert first.prompt == (Message(role="user", content="How deep?"),)
    assert (first.topic, second.topic, second.answer) == ("", "squat", "발목부터 풀자.")
    assert first.origin == "imported"


def test_the_default_topic_fills_gaps_only(tmp_path: Path, persona: Persona) -> None:
    path = write(tmp_path, ROW, {**ROW, "output": "Deeper.", "topic": "squat"})
    kept = import_rows(path, persona, topic="sleep").examples
    assert [example.topic for example in kept] == ["sleep", "squat"]
    with pytest.raises(UserError, match="unknown topic 'slep' — did you mean 'sleep'"):
        import_rows(path, persona, topic="slep")


def test_alpaca_input_follows_the_instruction(tmp_path: Path) -> None:
    path = write(tmp_path, {**ROW, "input": "I sit all day."}, {**ROW, "input": None})
    kept = import_rows(path, None).examples
    assert [example.question for example in kept] == ["How deep?\n\nI sit all day.", "How deep?"]
    assert kept[0].parents == ()


def test_chat_rows_keep_every_earlier_turn(tmp_path: Path) -> None:
    (example,) = import_rows(write(tmp_path, {"messages": [*TURNS, ANSWER]}), None).examples
    assert as_messages(example.prompt) == TURNS
    assert example.answer == "Up again."


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "How?", "chosen": "So.", "rejected": "No."},
        {
            "prompt": [{"role": "user", "content": "How?"}],
            "chosen": [{"role": "assistant", "content": "So."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        },
        {
            "prompt": "How?",
            "chosen": [
                {"role": "user", "content": "How?"},
                {"role": "assistant", "content": "So."},
            ],
            "rejected": "No.",
        },
    ],
    ids=["text", "turns", "whole conversation"],
)
def test_preference_rows_in_each_of_their_forms(tmp_path: Path, row: dict[str, object]) -> None:
    imported = import_rows(write(tmp_path, row), None)
    (pair,) = imported.preferences
    assert (pair.prompt[-1].content, pair.chosen, pair.rejected) == ("How?", "So.", "No.")
    assert imported.examples == []


def test_exact_repetitions_are_dropped_with_the_line_of_the_first(tmp_path: Path) -> None:
    pair = {"prompt": "How?", "chosen": "So.", "rejected": "No."}
    other = {**ROW, "output": "Another answer to the same question."}
    imported = import_rows(write(tmp_path, ROW, other, pair, ROW, pair), None)
    assert (len(imported.examples), len(imported.preferences)) == (2, 1)
    assert [(drop.reason, drop.source, drop.detail) for drop in imported.dropped] == [
        ("exact_duplicate", "rows.jsonl:4", "the same as rows.jsonl:1"),
        ("exact_duplicate", "rows.jsonl:5", "the same as rows.jsonl:3"),
    ]
    assert imported.dropped[0].record == imported.examples[0].id


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"instruction": "How deep?"}, "'output' is missing"),
        (
            {"instruction": "How deep?", "outptu": "So."},
            "'output' is missing; unknown key 'outptu' — did you mean 'output'?",
        ),
        ({**ROW, "output": "  "}, "'output' is empty"),
        ({**ROW, "output": 3}, "'output' is not text but int"),
        ({**ROW, "output": None, "instruction": ""}, "'instruction' is empty; 'output' is empty"),
        ("{'instruction': 'x'}", "broken JSON: Expecting property name"),
        ('["a"]', "is not a JSON object — one JSON object a line"),
        ('{"instruction": "a", "output": "\\ud800"}', "'output' holds half a Unicode character"),
        ({"question": "a"}, "'answer' is missing"),
        ({"a": "b"}, "has none of the known shapes, only 'a' — give {instruction, output}"),
        ({"x": "b", "z": "c"}, "say which is which: --map instruction=x --map output=z"),
        ({"massages": []}, "only 'massages' — did you mean 'messages'?"),
        ({"messages": [*TURNS]}, "messages do not end with a user turn and the assistant's answer"),
        ({"messages": [ANSWER]}, "messages do not end with a user turn and the assistant's answer"),
        (
            {"messages": [{"role": "tool", "content": "x"}, ANSWER]},
            "messages turn 1 is a tool call — tools are not trained",
        ),
        (
            {"messages": [{"role": "user", "content": " "}, ANSWER]},
            "'messages' turn 1 is blank",
        ),
        ({"messages": ["hello"]}, "'messages.1' is not a turn {role, content}"),
        ({"messages": 7}, "'messages' is not a list of turns"),
        ({"prompt": "How?", "chosen": "So."}, "'rejected' is missing"),
        (
            {"prompt": "How?", "chosen": "So.", "rejected": "So. "},
            "chosen and rejected are the same text",
        ),
        (
            {"prompt": "How?", "chosen": [*TURNS, ANSWER], "rejected": "No."},
            "chosen does not follow the prompt",
        ),
        ({**ROW, "topic": "sqat"}, "unknown topic 'sqat' — did you mean 'squat'?"),
        ({**ROW, "topic": "law"}, "unknown topic 'law' — one of squat, sleep"),
    ],
)
def test_a_bad_row_is_told_with_its_line(
    tmp_path: Path, persona: Persona, row: object, line: str
) -> None:
    (told,) = lines_of(write(tmp_path, *[ROW] * 16, row, ROW), persona)
    assert told.startswith("rows.jsonl:17: ")
    assert line in told


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    told = lines_of(write(tmp_path, ROW, "{", {"instruction": "a"}, ROW, {**ROW, "output": 1}))
    assert [line.split(": ")[0] for line in told] == [
        "rows.jsonl:2",
        "rows.jsonl:3",
        "rows.jsonl:5",
    ]


def test_a_file_full_of_mistakes_fills_one_screen(tmp_path: Path) -> None:
    told = lines_of(write(tmp_path, *["{"] * 50))
    assert len(told) == MOST_ERRORS + 1
    assert told[-1].startswith("rows.jsonl: 30 more lines are wrong — mend these first, or pass")


def test_another_charset_is_read_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    text = json.dumps({**ROW, "output": "무릎을 풀자"}, ensure_ascii=False)
    path.write_bytes(f"{text}\n".encode("cp949"))
    assert import_rows(path, None).examples[0].answer == "무릎을 풀자"
    assert "rows.jsonl: read as CP949" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "\n  \n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content, encoding="utf-8")
    assert lines_of(path) == ["rows.jsonl: is empty — check that it is the file you meant"]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    told = lines_of(tmp_path / "none.jsonl")
    assert told == ["none.jsonl: cannot be read (No such file or directory) — check the path"]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode())
    assert import_rows(path, None).examples[0].question == "How deep?"


def test_a_topic_may_be_named_as_readers_see_it(tmp_path: Path, persona: Persona) -> None:
    named = persona.model_copy(update={"topic_names": {"squat": "Deep squats"}})
    path = write(tmp_path, {**ROW, "topic": "Deep squats"})
    (row,) = import_rows(path, named).examples
    assert row.topic == "squat"
