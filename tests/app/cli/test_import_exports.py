"""`persona import` on what other programs export: read as it is meant, or refused by its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.import_command import Imports

DEEP = {"instruction": "How deep?", "output": "To the chair, champ."}
FAR = {"instruction": "How far?", "output": "To the door, champ."}
ROWS = [DEEP, FAR]
COLUMNS = {name: [row[name] for row in ROWS] for name in DEEP}


def _merged_title(path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.create_sheet("rows", 0)
    sheet["A1"] = "Rows of the spring"
    sheet.merge_cells("A1:C1")
    sheet.append([])
    sheet.append(["instruction", "output", None])
    for row in ROWS:
        sheet.append(list(row.values()))
    book.save(path)


def _bytes(path: Path) -> None:
    columns = {name: [cell.encode() for cell in cells] for name, cells in COLUMNS.items()}
    pq.write_table(pa.table(columns), path)


def _json(value: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(value), encoding="utf-8")


def _text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")


CELLS = "".join(f"{row['instruction']};{row['output']};;\n" for row in ROWS)
BY_INDEX = {name: dict(enumerate(cells)) for name, cells in COLUMNS.items()}
SPLIT = {"columns": list(DEEP), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}
EXPORTS: dict[str, Callable[[Path], object]] = {
    "a merged title.xlsx": _merged_title,
    "text as bytes.parquet": _bytes,
    "a list a column.json": _json(COLUMNS),
    "a column by its index.json": _json(BY_INDEX),
    "columns and data.json": _json(SPLIT),
    "a schema beside.json": _json({"schema": {"fields": [{"name": "output"}]}, "data": ROWS}),
    "features beside.json": _json(
        {"features": [{"name": "output"}], "rows": [{"row_idx": 0, "row": row} for row in ROWS]}
    ),
    "rows by their ids.json": _json({"a1": DEEP, "a2": FAR}),
    "tasks of annotators.json": _json([{"id": 1, "annotations": [], "data": row} for row in ROWS]),
    "the separator first.csv": _text(f"sep=;\ninstruction;output;;\n{CELLS}"),
    "a title and blanks.csv": _text(f"Rows of the spring\n\n;;;\ninstruction;output\n{CELLS}"),
    "trailing commas.jsonl": _text("".join(json.dumps(row)[:-1] + ",},\n" for row in ROWS)),
    "comments.jsonl": _text("".join(f"// a row\n{json.dumps(row)}\n" for row in ROWS)),
    "lines of a Mac.csv": _text(f"instruction;output;;\n{CELLS}".replace("\n", "\r")),
}


@pytest.mark.parametrize("name", list(EXPORTS))
def test_exports_of_other_programs_give_the_same_rows(imports: Imports, name: str) -> None:
    path = imports.folder / name
    EXPORTS[name](path)
    assert imports(path) == 0
    assert [(row.question, row.answer) for row in imports.rows] == [tuple(r.values()) for r in ROWS]
    assert imports.drops == []


def test_a_row_above_the_column_names_is_no_title(imports: Imports) -> None:
    path = imports.write("a.csv", "How far?,To the door.\ninstruction,output\nHow deep?,Low.\n")
    assert imports(path) == 2
    assert "a.csv:1: stands above the column names" in imports.err
    assert imports(path, "--skip-bad") == 0
    assert (imports.questions, imports.drops) == (["How deep?"], [("a.csv:1", "broken_table")])


@pytest.mark.parametrize(
    ("liked", "disliked"),
    [(True, False), (1, 0), ("true", "False"), (1.0, 0.0), (1, -1), ("good", "bad"), ("👍", "👎")],
)
def test_an_answer_that_is_labelled_bad_is_never_a_row(
    imports: Imports, liked: object, disliked: object
) -> None:
    pair = [("Low.", liked), ("No.", disliked)]
    rows = [{"prompt": "How deep?", "completion": text, "label": label} for text, label in pair]
    assert imports(imports.write("kto.jsonl", "\n".join(map(json.dumps, rows)))) == 0
    assert [row.answer for row in imports.rows] == ["Low."]
    assert [(one.chosen, one.rejected) for one in imports.pairs] == [("Low.", "No.")]


TEMPLATES = [
    "\n\nHuman: How deep?\n\nAssistant: Low.",
    "### Instruction:\nHow deep?\n\n### Response:\nLow.",
    "<|user|>\nHow deep?</s>\n<|assistant|>\nLow.</s>",
    "<start_of_turn>user\nHow deep?<end_of_turn>\n<start_of_turn>model\nLow.<end_of_turn>\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHow deep?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nLow.<|eot_id|>",
]


@pytest.mark.parametrize("text", TEMPLATES)
def test_a_rendered_dialogue_is_its_turns(imports: Imports, text: str) -> None:
    assert imports(imports.write("a.jsonl", json.dumps({"text": text}))) == 0
    assert [(row.question, row.answer) for row in imports.rows] == [("How deep?", "Low.")]


def test_preferences_and_speakers_of_other_vendors(imports: Imports) -> None:
    asked = {"role": "user", "content": "How deep?"}
    low, no = ({"role": "assistant", "content": text} for text in ("Low.", "No."))
    row = {
        "input": {"messages": [asked], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [low],
        "non_preferred_output": [no],
    }
    assert imports(imports.write("openai.jsonl", json.dumps(row))) == 0
    assert [(one.question, one.chosen, one.rejected) for one in imports.pairs] == [
        ("How deep?", "Low.", "No.")
    ]
    turns = [
        ("System", "Be brief."),
        ("Chatbot", "Hi."),
        ("User", "How deep?"),
        ("Chatbot", "Low."),
    ]
    chat = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert imports(imports.write("cohere.jsonl", json.dumps(chat)), "--replace") == 0
    assert [turn.role for turn in imports.rows[0].prompt] == ["system", "assistant", "user"]


@pytest.mark.parametrize(
    "text",
    [
        "كم مرة؟ (١٠) يا بطل",
        "می\u200cخواهم",
        "क्\u200dया ठीक है",
        "👩‍🏋️‍♀️ 👨‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️‍🔥 👍🏽",
        "ạ̈ ﬁ Ⅳ ½",
    ],
)
def test_letters_that_marks_join_stay_whole(imports: Imports, text: str) -> None:
    row = {"instruction": text, "output": text}
    path = imports.write("a.jsonl", json.dumps(row, ensure_ascii=False))
    assert imports(path) == 0
    assert [(one.question, one.answer) for one in imports.rows] == [(text, text)]
