"""A round on disk: its artifacts typed, its neighbours by number, other formats refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rounds.layout import (
    COVERAGE,
    DECISIONS,
    EXAMPLES,
    FORMAT,
    RESOLVED,
    STYLE,
    TRAIN,
    Manifest,
    RoundFolder,
    round_number,
    write,
)
from tests.commands import Commands, write_manifest
from workbench.errors import UserError
from workbench.records import Example, user_prompt
from workbench.store import write_json

ROW = Example(prompt=user_prompt("How many squats?"), answer="Ten, champ.", topic="eating")


@pytest.fixture
def one(tmp_path: Path) -> RoundFolder:
    return RoundFolder.open(tmp_path / "coach", 1)


def test_records_come_back_as_they_were_written(one: RoundFolder) -> None:
    path = write(one.stage("split"), TRAIN, [ROW])
    assert path == one.folder / "split" / "train.jsonl" == one.path(TRAIN)
    assert one.read(TRAIN) == [ROW]
    assert TRAIN is EXAMPLES["train"]


def test_plain_values_come_back_too(one: RoundFolder) -> None:
    write(one.stage("generate"), COVERAGE, {"topics": {"eating": 3}})
    assert one.read(COVERAGE) == {"topics": {"eating": 3}}


def test_what_is_missing_names_the_stage_that_makes_it(one: RoundFolder) -> None:
    with pytest.raises(
        UserError, match=r"resolve/examples\.jsonl is not there yet — `persona resolve`"
    ):
        one.read(RESOLVED)
    assert one.read_if_there(RESOLVED) == []


def test_a_broken_record_is_named_by_its_line(one: RoundFolder) -> None:
    path = write(one.stage("resolve"), DECISIONS, [])
    path.write_text('{"outcome": "keep"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"decisions\.jsonl:1: no valid Decision: record"):
        one.read(DECISIONS)


def test_a_broken_document_is_one_line(one: RoundFolder) -> None:
    write_json(one.path(STYLE), {"rows": "many"})
    with pytest.raises(UserError, match=r"no valid evaluate/style\.json: .* --force evaluate"):
        one.read(STYLE)


def test_rounds_are_in_the_order_of_their_numbers_beyond_999_too(tmp_path: Path) -> None:
    for number in (1000, 2, 999, 1, 1001):
        RoundFolder.open(tmp_path, number).folder.mkdir()
    (tmp_path / "round-next").mkdir()
    last = RoundFolder.open(tmp_path, 1001)
    assert [one.number for one in last.all_rounds] == [1, 2, 999, 1000, 1001]
    assert [one.name for one in last.earlier] == [
        "round-001",
        "round-002",
        "round-999",
        "round-1000",
    ]
    assert last.previous == RoundFolder.open(tmp_path, 1000)
    assert RoundFolder.open(tmp_path, 999).next.name == "round-1000"
    assert RoundFolder.open(tmp_path, 1).previous is None


@pytest.mark.parametrize(
    ("name", "number"),
    [("round-001", 1), ("round-1000", 1000), ("round-1", None), ("seeds.jsonl", None)],
)
def test_a_name_says_a_rounds_number(name: str, number: int | None) -> None:
    assert round_number(name) == number


def test_a_manifest_has_its_format(one: RoundFolder) -> None:
    write_manifest(one.folder, "import")
    manifest = one.manifest("import")
    assert isinstance(manifest, Manifest) and manifest.format == FORMAT
    assert one.manifest("filter") is None


def test_a_round_of_an_older_format_is_refused_in_one_line_by_commands(commands: Commands) -> None:
    folder = commands.folder() / "import"
    write_json(folder / "manifest.json", {"stage": "import", "inputs": {}, "settings": {}})
    for arguments in (("import",), ("watch", "--once")):
        output = commands.on_round(*arguments)
        assert output.code == 2
        (line,) = output.err.strip().splitlines()[-1:]
        assert line == (
            f"persona: {folder / 'manifest.json'}: the round is of format 1, this version reads"
            f" {FORMAT} — make the round anew, or read it with the version that made it"
        )
