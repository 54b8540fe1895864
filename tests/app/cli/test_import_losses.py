"""`persona import` loses nothing silently: what is not read is told, with its name."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.import_command import Imports


def _row(question: str) -> str:
    return json.dumps({"instruction": question, "output": "To the chair, champ."})


def test_all_files_of_a_folder_are_read_or_told_by_name(imports: Imports) -> None:
    table = "instruction,output\n{},To the chair\n"
    imports.write("d/a.jsonl", _row("a"))
    imports.write("d/B.JSONL", _row("b"))
    imports.write("d/c.csv.GZ", gzip.compress(table.format("c").encode()))
    imports.write("d/state.csv", table.format("e"))
    imports.write("d/manifest.jsonl", _row("f"))
    imports.write("d/sub/G.Tab", table.format("g").replace(",", "\t"))
    for name in ("manifest.json", "d.md", ".hidden/h.jsonl", ".i.jsonl", "sub/j.xls"):
        imports.write(f"d/{name}", _row("no"))
    imports.write("other/k.jsonl", _row("k"))
    (imports.folder / "d" / "linked").symlink_to(imports.folder / "other")
    (imports.folder / "d" / "gone.jsonl").symlink_to(imports.folder / "nowhere")
    assert imports(imports.folder / "d", "--dry-run") == 0
    note = (
        "d: no files of rows, passed over: .hidden, .i.jsonl, d.md, gone.jsonl, linked,"
        " manifest.json, sub/j.xls"
    )
    assert note in imports.err
    assert imports(imports.folder / "d") == 0
    assert note in imports.err
    assert sorted(imports.questions) == ["a", "b", "c", "e", "f", "g"]


def test_pictures_that_rows_show_are_not_passed_over(imports: Imports) -> None:
    imports.write("d/pictures/me.png", b"\x89PNG")
    imports.write("d/pictures/copy.png", b"\x89PNG")
    rows = [
        {"instruction": name, "output": "Up.", "image": f"pictures/{name}.png"}
        for name in ("me", "copy")
    ]
    imports.write("d/a.jsonl", "\n".join(map(json.dumps, rows)))
    assert imports(imports.folder / "d") == 0
    assert "passed over" not in imports.err
    imports.write("d/pictures/spare.png", b"\x89PNG")
    assert imports(imports.folder / "d", "--force") == 0
    assert "passed over: pictures/spare.png" in imports.err


def test_what_lies_beside_a_saved_dataset_is_told(imports: Imports) -> None:
    datasets = pytest.importorskip("datasets")
    row = json.loads(_row("a"))
    datasets.Dataset.from_list([row]).save_to_disk(str(imports.folder / "d"))
    imports.write("d/more.jsonl", _row("b"))
    assert imports(imports.folder / "d") == 0
    assert "d: no files of rows, passed over: more.jsonl" in imports.err


def test_a_folder_below_that_may_not_be_entered_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(_row("a"), encoding="utf-8")
    (tmp_path / "locked").mkdir(mode=0o000)
    code = (
        "import os, sys; from pathlib import Path; from workbench.row_files import row_files\n"
        "folder = os.open(sys.argv[1], os.O_RDONLY); os.fchdir(folder)\n"
        "os.geteuid() or os.seteuid(65534)\n"
        "try: list(row_files(Path('.')))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    tmp_path.chmod(0o755)
    asked = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, env=os.environ, check=False)
    assert "UserError locked: cannot be read (Permission denied)" in done.stdout, done.stderr


def test_earlier_turns_in_a_cell_are_read(imports: Imports) -> None:
    table = "instruction,output,history\n"
    for history in ('[[""I hurt my knee"",""Rest.""]]', "[('I hurt my knee', 'Rest.')]", "[]", ""):
        table += f'And now?,"To the chair, champ.","{history}"\n'
    assert imports(imports.write("a.csv", table)) == 0
    turns = [[turn.content for turn in row.prompt] for row in imports.rows]
    assert turns == [["I hurt my knee", "Rest.", "And now?"], ["And now?"]]
    assert imports.drops == [("a.csv:3", "exact_duplicate"), ("a.csv:5", "exact_duplicate")]


@pytest.mark.parametrize("history", ["I hurt my knee", {"I hurt my knee": "Rest."}, "[broken", 5])
def test_earlier_turns_that_are_none_are_told(imports: Imports, history: object) -> None:
    row = {**json.loads(_row("And now?")), "history": history}
    assert imports(imports.write("a.jsonl", json.dumps(row))) == 2
    assert "a.jsonl:1: 'history' is not a list of turns" in imports.err


def test_an_answer_that_is_written_as_a_list_stays_a_text(imports: Imports) -> None:
    answer = '["squat", "rest"]'
    row = {"instruction": "Name two.", "output": answer}
    assert imports(imports.write("a.jsonl", json.dumps(row))) == 0
    assert [one.answer for one in imports.rows] == [answer]


def test_two_columns_of_one_name_are_told(imports: Imports) -> None:
    path = imports.write("a.jsonl", '{"instruction": "a", "Output": "GOOD", "output": "OTHER"}')
    assert imports(path) == 2
    assert "a.jsonl:1: both 'Output' and 'output' may be the 'output'" in imports.err
    assert imports(path, "--map", "output=Output") == 0
    assert [row.answer for row in imports.rows] == ["GOOD"]
    assert "columns passed over: 'output'" in imports.err
    one = '{"instruction": "a", "Output": "GOOD", "output": ""}'
    assert imports(imports.write("b.jsonl", one)) == 0
    assert [row.answer for row in imports.rows] == ["GOOD"]


def test_a_table_that_names_a_column_twice_is_refused_in_every_format(imports: Imports) -> None:
    names, cells = ["instruction", "output", "output"], ["a", "GOOD", "OTHER"]
    book = openpyxl.Workbook()
    sheet = book.create_sheet("rows", 0)
    sheet.append(names)
    sheet.append(cells)
    book.save(imports.folder / "a.xlsx")
    table = pa.Table.from_arrays([pa.array([cell]) for cell in cells], names=names)
    pq.write_table(table, imports.folder / "a.parquet")
    imports.write("a.csv", "\n".join(map(",".join, (names, cells))))
    for name in ("a.xlsx", "a.parquet", "a.csv"):
        assert imports(imports.folder / name) == 2
        assert "the column 'output' is there twice" in imports.err
        assert imports(imports.folder / name, "--skip-bad") == 0
        assert imports.rows == []
        assert [reason for _, reason in imports.drops] == ["broken_table", "ambiguous"]


@pytest.mark.parametrize(
    ("row", "note"),
    [
        ({"text": "### Human: a\n### Assistant: b", "system": "Be brief."}, "'system' of 1 rows"),
        ({"instruction": "a", "output": "b", "text": "c"}, "'text' of 1 rows"),
        ({"instruction": "a", "output": "b", "id": "7", "source": "mail"}, "'id', 'source'"),
        ({"row": {"instruction": "a", "output": "b"}, "remark": "c"}, "'remark'"),
    ],
)
def test_columns_for_which_a_shape_has_no_place_are_told(
    imports: Imports, row: dict[str, object], note: str
) -> None:
    assert imports(imports.write("a.jsonl", json.dumps(row))) == 0
    assert f"a.jsonl: columns passed over: {note}\n" in imports.err
    assert len(imports.rows) == 1


def test_parents_that_are_no_list_are_told(imports: Imports) -> None:
    row = {**json.loads(_row("a")), "id": "ex-0123456789abcdef", "parents": 5}
    path = imports.write("a.jsonl", json.dumps(row) + "\n" + _row("b"))
    assert imports(path) == 2
    assert "a.jsonl:1: 'parents' is not a list of names" in imports.err
    assert imports(path, "--skip-bad") == 0
    assert imports.drops == [("a.jsonl:1", "wrong_shape")]


def test_pictures_that_cannot_be_read_are_told(imports: Imports) -> None:
    (imports.folder / "loop.png").symlink_to(imports.folder / ("b" * 300 + ".png"))
    for name in ("a" * 300 + ".png", "loop.png", "half\ud800.png", "nul\0.png"):
        row = {**json.loads(_row("a")), "image": name}
        path = imports.write("a.jsonl", json.dumps(row) + "\n" + _row("b"))
        assert imports(path) == 2
        assert "a.jsonl:1: " in imports.err
        assert "picture" in imports.err
        assert imports(path, "--skip-bad", "--force") == 0
        assert imports.drops == [("a.jsonl:1", "no_picture")]


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_file_whose_name_is_no_text_is_told(imports: Imports, options: tuple[str, ...]) -> None:
    path = imports.write(os.fsdecode(b"b\xff.jsonl"), _row("a"))
    assert imports(path, *options) == 2
    assert "b?.jsonl: its name is not UTF-8 — rename it" in imports.err
    assert not imports.stage.exists()


def test_two_columns_of_one_name_are_read_where_they_say_one_thing(imports: Imports) -> None:
    table = "instruction,output,note,note,output\na,GOOD,x,y,GOOD\nb,,x,y,BACK\nc,GOOD,x,y,OTHER\n"
    path = imports.write("a.csv", table)
    assert imports(path) == 2
    assert imports(path, "--skip-bad") == 0
    assert [(row.question, row.answer) for row in imports.rows] == [("a", "GOOD"), ("b", "BACK")]
    assert imports.drops == [("a.csv:1", "broken_table"), ("a.csv:4", "ambiguous")]
    assert "columns passed over: 'note', 'note (2)'" in imports.err
    apart = imports.write("b.csv", "instruction,output,note,note\na,GOOD,x,y\n")
    assert imports(apart) == 0
    assert imports.drops == []
