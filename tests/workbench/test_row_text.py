"""Replies as chats give them: what is read, what is mended, what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generation.importing import import_rows
from workbench.errors import UserError

ONE = '{"instruction": "How deep?", "output": "To the chair, champ.", "topic": "squat"}'
TWO = '{"instruction": "Why so tired?", "output": "Lights out, champ.", "topic": "sleep"}'


def read(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    path = tmp_path / "reply.txt"
    path.write_text(text, encoding="utf-8")
    return [(row.question, row.source) for row in import_rows(path, None).examples]


def told(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    return [line.replace(str(tmp_path) + "/", "") for line in caught.value.lines()]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"Sure! Here are your rows:\n\n```jsonl\n{ONE}\n{TWO}\n```\nShall I go on?", (4, 5)),
        (f"물론이죠.\n\n{ONE}\n\n다음 행입니다.\n{TWO}\n도움이 되었나요?", (3, 6)),
        (f"~~~\n{ONE}\n~~~\nand\n~~~json\n{TWO}\n~~~", (2, 6)),
        (f"1. {ONE}\n2. {TWO}", (1, 2)),
        (f"[\n  {ONE},\n  {TWO},\n]", (2, 3)),
        (f"Rows:\n[{ONE}, {TWO}]", (2, 2)),
        ("\n".join(json.dumps(json.loads(row), indent=2) for row in (ONE, TWO)), (1, 6)),
        (f"{ONE},\n{TWO.replace('}', ',}')}", (1, 2)),
        (f"{ONE}\n{TWO}".replace('"', "“"), (1, 2)),
        (f"\ufeff```\n{ONE}\n{TWO}", (2, 3)),
    ],
    ids=[
        "fence", "prose", "two fences", "numbered", "list", "list on a line", "indented",
        "trailing commas", "smart quotes", "fence left open",
    ],
)  # fmt: skip
def test_a_reply_gives_its_rows_with_their_lines(
    tmp_path: Path, text: str, lines: tuple[int, int]
) -> None:
    first, second = lines
    assert read(tmp_path, text) == [
        ("How deep?", f"reply.txt:{first}"),
        ("Why so tired?", f"reply.txt:{second}"),
    ]


def test_quotes_and_commas_inside_of_a_text_stay_as_they_are(tmp_path: Path) -> None:
    answer = "Say “go” now, then rest,] and {eat, } well."
    row = f"{{“instruction”: “How?”, “output”: “{answer}”,}}"
    path = tmp_path / "reply.txt"
    path.write_text(f"Here:\n{row}\n", encoding="utf-8")
    (example,) = import_rows(path, None).examples
    assert example.answer == answer


def test_what_was_passed_over_or_mended_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(tmp_path, f"Here you are:\n{ONE}\n{TWO.replace('}', ',}')}\nMore?")
    said = capsys.readouterr().err
    assert "reply.txt: quotes or commas mended in line 3" in said
    assert "reply.txt: no row, passed over: line 1, 4" in said


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            f"Here:\n{ONE}\n" + '{"instruction": "Why", "outp',
            ["reply.txt:3: broken JSON: Unterminated string starting at column 24"],
        ),
        (
            '{"instruction": "a "quoted" word", "output": "b"}\n' + ONE,
            ["reply.txt:1: broken JSON: Expecting ',' delimiter at column 21"],
        ),
        (f"```\n{ONE}\n...\n```", ["reply.txt:3: is no row: '...'"]),
        (f'{ONE}\n"output": "lost"}}', ['reply.txt:2: is no row: \'"output": "lost"}\'']),
        ("{\n“instruction”: “He said “no”, so?”,\n“output”: “b”\n}", ["reply.txt:1: broken JSON"]),
        ("Only prose, and no row.", ["reply.txt: no row is in it"]),
        ("```\n[1, 2]\n```", ["reply.txt:2: is not a JSON object"]),
        (f"Two:\n{ONE[:-1]}\n{TWO}", ["reply.txt:2: broken JSON: Expecting ',' delimiter"]),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, text: str, lines: list[str]
) -> None:
    found = told(tmp_path, text)
    starts = [line[: len(start)] for line, start in zip(found, lines, strict=True)]
    assert starts == lines
