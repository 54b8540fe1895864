"""What splits of rounds hold, splits that stay, and leaks of our files and of others'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rounds.layout import ASSIGNMENTS, SPLIT_DROPS, TRAIN
from rounds.pipeline import run_stages
from rounds.splits import LeakCheck, check_files, check_rounds, split_sizes
from tests.commands import Workspace
from tests.curation.review_team import seeds
from workbench.errors import UserError
from workbench.records import Example, Preference

PROBES = 188 + 6
"""Of the persona, and the held-out simulated users."""
"""The persona's probes, which the split holds in the test split."""


@pytest.fixture
def rows(repo: Path) -> list[Example]:
    return seeds(repo / "datasets" / "gym-trainer")


def _split(workspace: Workspace, number: int = 1, seed: int | None = None) -> dict[str, str]:
    """Split a round, and return record → split."""
    context = workspace.context(number, seed=seed)
    run_stages(context, ["split"])
    return {one.record: one.split for one in context.round.read(ASSIGNMENTS)}


def _reasons(check: LeakCheck) -> set[str]:
    return {leak.why for leak in check.leaks}


def test_sizes_are_by_topic_and_split(workspace: Workspace, rows: list[Example]) -> None:
    pair = Preference(prompt=rows[0].prompt, chosen="A.", rejected="B.", topic=rows[0].topic)
    workspace.curated(rows, [pair])
    _split(workspace)
    sizes = split_sizes(workspace.round())
    drops = workspace.round().read(SPLIT_DROPS)
    assert {drop.reason for drop in drops} == {"asks_the_same"} and len(drops) < 8
    assert sum(sizes.rows.values()) + len(drops) == len(rows)
    assert sizes.rows["test"] >= 0.2 * len(rows)
    assert sum(sizes.pairs.values()) == 1
    assert list(sizes.topics["desk_posture"].values()) == [10]
    assert all(count > 0 for count in sizes.groups.values())


def test_the_rounds_own_split_has_no_leak(workspace: Workspace, rows: list[Example]) -> None:
    workspace.curated(rows)
    _split(workspace)
    check = check_rounds(workspace.context())
    assert (check.leaks, check.files, check.rounds) == ([], 7, ("round-001",))
    drops = workspace.round().read(SPLIT_DROPS)
    assert len(check.items) + len(drops) == len(rows) + PROBES


def test_a_row_moved_by_hand_is_found_by_its_topic_and_its_file(
    workspace: Workspace, rows: list[Example]
) -> None:
    workspace.curated(rows)
    _split(workspace)
    train = workspace.round().path(TRAIN)
    moved = train.read_text(encoding="utf-8").splitlines()[4]
    with train.with_name("test.jsonl").open("a", encoding="utf-8") as file:
        file.write(moved + "\n")
    check = check_rounds(workspace.context())
    assert {"same row", "same topic"} <= _reasons(check)
    places = {leak.one.where for leak in check.leaks} | {leak.other.where for leak in check.leaks}
    assert f"{train}:5" in places


def test_rows_keep_their_split_in_a_later_round_and_a_row_between_two_splits_goes(
    workspace: Workspace, rows: list[Example]
) -> None:
    workspace.curated(rows[:100])
    before = _split(workspace)
    split_of = {row.topic: before[row.id] for row in rows[:100] if row.id in before}
    held = next(row for row in rows[:100] if before.get(row.id) == "test")
    trained = next(topic for topic, split in split_of.items() if split == "train")
    joins = Example(prompt=held.prompt, answer="Both, champ.", topic=trained, source="new.jsonl:1")
    workspace.curated([*rows, joins], number=2)
    after = _split(workspace, 2, seed=7)
    drops = {drop.source: drop for drop in workspace.round(2).read(SPLIT_DROPS)}
    drop = drops.pop("new.jsonl:1")
    assert drop.reason == "joins_two_splits" and "round-001 seeds.jsonl:" in drop.detail
    assert {other.reason for other in drops.values()} == {"asks_the_same"}
    again = [row for row in rows if row.topic in split_of and row.source not in drops]
    assert {row.id: after[row.id] for row in again} == {
        row.id: split_of[row.topic] for row in again
    }
    assert joins.id not in after
    check = check_rounds(workspace.context(2))
    assert (check.leaks, check.files, check.rounds) == ([], 14, ("round-001", "round-002"))


def test_a_round_split_otherwise_than_an_earlier_one_leaks(
    workspace: Workspace, rows: list[Example]
) -> None:
    workspace.curated(rows, number=2)
    _split(workspace, 2)
    workspace.curated(rows, number=1)
    _split(workspace, 1, seed=3)
    assert "same row" in _reasons(check_rounds(workspace.context()))
    _split(workspace, 2)  # its inputs have changed: it is done again
    assert check_rounds(workspace.context()).leaks == []


def _file(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_files_of_others_are_compared_across_shapes(tmp_path: Path) -> None:
    question = "What is the best way to warm up before a run?"
    alpaca = _file(
        tmp_path / "alpaca.jsonl",
        {"instruction": "Name three squat errors.", "input": "", "output": "..."},
        {"instruction": question, "input": "", "output": "..."},
    )
    other = "Before a run, what is the best way to warm up?"
    chat = _file(tmp_path / "chat.jsonl", {"messages": [{"role": "user", "content": other}]})
    (leak,) = check_files([(alpaca, "train"), (chat, "test")]).leaks
    assert {leak.one.where, leak.other.where} == {f"{alpaca}:2", f"{chat}:1"}
    assert (leak.why, leak.similarity) == ("question nearly the same", 1.0)
    grpo = _file(tmp_path / "grpo.jsonl", {"prompt": "How much water do I need?"})
    assert check_files([(alpaca, "train"), (grpo, "test")]).leaks == []
    with pytest.raises(UserError, match="all files are of the split 'test', so nothing can leak"):
        check_files([(alpaca, "test"), (chat, "test")])


def test_without_a_split_round_there_is_nothing_to_check(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="no round of this persona is split yet"):
        check_rounds(workspace.context())


def test_a_pair_and_its_question_are_in_one_split(
    workspace: Workspace, rows: list[Example]
) -> None:
    pairs = [
        Preference(prompt=row.prompt, chosen=row.answer, rejected="No.", parents=(row.id,))
        for row in rows[:40]
    ]
    workspace.curated([row.evolve(topic="") for row in rows], pairs)
    splits = _split(workspace)
    by_question = {row.prompt: splits.get(row.evolve(topic="").id) for row in rows}
    assert {splits.get(pair.id) == by_question[pair.prompt] for pair in pairs} == {True}
