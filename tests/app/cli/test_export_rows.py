"""`persona export rows`: the split's rows in other forms, and back by `persona import`."""

from __future__ import annotations

import json
from pathlib import Path

from rounds.row_export import record_names
from tests.commands import Commands
from tests.rounds.lineage.test_audit import round_  # noqa: F401 — a fixture
from workbench.records import Example, UnpairedPreference, user_prompt
from workbench.store import read_records, write_records


def _ids(folder: Path) -> list[str]:
    files = [folder / f"split/{split}.jsonl" for split in ("train", "test")]
    return sorted(row.id for file in files for row in read_records(file, Example))


def test_rows_go_out_and_come_back_and_are_found_by_forget(
    commands: Commands,
    round_: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (round_ / "split/validation.jsonl").touch()
    out = tmp_path / "rows out"
    args = ("--format", "csv", "--rows", "sft", "--out", str(out))
    output = commands.on_round("export", "rows", *args)
    assert output.code == 0, output.err
    assert output.out.splitlines()[-1] == str(out)
    about = json.loads((out / "manifest.json").read_text("utf-8"))
    assert sum(about["files"].values()) == len(_ids(round_))
    back = commands.on_round("import", str(out), number=9)
    assert back.code == 0, back.err
    came = read_records(commands.folder(9) / "import/examples.jsonl", Example)
    assert sorted(row.id for row in came) == _ids(round_)
    forget = commands.on_round("forget", _ids(round_)[0])
    assert f"{out}: an export of round-001 with 1 record of these; remove it" in forget.out


def test_a_folder_that_is_no_export_is_left_alone(
    commands: Commands,
    round_: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (round_ / "split/validation.jsonl").touch()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear", encoding="utf-8")
    output = commands.on_round("export", "rows", "--out", str(mine), "--rows", "sft")
    assert (output.code, output.err.count("\n")) == (2, 1)
    assert "is no export of rows" in output.err
    assert (mine / "letter.txt").read_text("utf-8") == "dear"


def test_a_round_without_a_split_is_one_line(commands: Commands) -> None:
    output = commands.on_round("export", "rows")
    assert (output.code, output.err.count("\n")) == (2, 1)


def test_an_unpaired_answer_is_forgotten_with_its_row(tmp_path: Path) -> None:
    row = Example(prompt=user_prompt("How deep?"), answer="To the chair, champ.")
    answer = UnpairedPreference(prompt=row.prompt, answer=row.answer, label=True, parents=(row.id,))
    own = tmp_path / "own.jsonl"
    own.write_text('{"instruction": "How far?", "output": "To the door."}\n', encoding="utf-8")
    write_records(tmp_path / "unpaired.jsonl", [answer])
    names = record_names(tmp_path / "unpaired.jsonl", own, None)
    assert names == {row.id, answer.id}
