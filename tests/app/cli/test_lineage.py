"""`persona trace` and `persona forget`: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import Commands
from tests.rounds.lineage.test_audit import round_  # noqa: F401 — a fixture
from workbench.records import Example
from workbench.store import read_records


def _row(folder: Path) -> Example:
    return next(read_records(folder / "split/train.jsonl", Example))


def test_the_chains_of_a_sample_are_counted_by_kind(
    commands: Commands,
    round_: Path,  # noqa: F811
) -> None:
    output = commands.on_round("trace", "--sample", "1000")
    assert output.code == 0
    assert output.out.splitlines()[-1] == "151 of 151 chains are complete"
    data = json.loads(commands.on_round("trace", "--sample", "60", "--json").out)
    assert data["gaps"] == {}
    assert data["kinds"]["adapter"] == {"there": 1, "drawn": 1, "complete": 1}
    (round_ / "review/reviews.jsonl").unlink()
    broken = commands.on_round("trace", "--sample", "1000")
    assert broken.code == 1
    assert "gap: " in broken.out and "stands in no file" in broken.out


def test_a_record_is_walked_both_ways_and_drawn(
    commands: Commands,
    round_: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    row, picture = _row(round_), tmp_path / "row.svg"
    output = commands.on_round("trace", row.id, "--picture", str(picture))
    assert output.code == 0
    assert output.out.splitlines()[-1] == "the chain is complete"
    assert "1 adapter: round-001/sft" in output.out
    assert row.id in picture.read_text("utf-8")
    chain = json.loads(commands.on_round("trace", row.id, "--json").out)
    assert (chain["id"], chain["adapters"], chain["gaps"]) == (row.id, ["round-001/sft"], [])


def test_forgetting_names_the_adapter(
    commands: Commands,
    round_: Path,  # noqa: F811
) -> None:
    output = commands.on_round("forget", _row(round_).id)
    assert "round-001/sft: its adapter was trained on them; train it again" in output.out


def test_neither_an_id_nor_a_number_is_one_line(
    commands: Commands,
    round_: Path,  # noqa: F811
) -> None:
    output = commands.on_round("trace")
    assert (output.code, output.err.count("\n")) == (2, 1)
    assert "name an id, or how many to draw" in output.err
