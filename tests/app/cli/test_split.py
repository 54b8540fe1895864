"""`persona split`: sizes per topic, splits that stay, and `--check` on our files and on others'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.curation.review_team import seeds
from workbench.records import Example, Preference, SplitAssignment
from workbench.store import read_records

PROBES = 188
"""The persona's probes, which the split holds in the test split."""


@pytest.fixture
def rows(repo: Path) -> list[Example]:
    return seeds(repo / "datasets" / "gym-trainer")


def _splits(commands: Commands, number: int) -> dict[str, str]:
    splits = read_records(commands.folder(number) / "split/splits.jsonl", SplitAssignment)
    return {split.record: split.split for split in splits}


def test_sizes_are_told_by_topic_and_split(commands: Commands, rows: list[Example]) -> None:
    pair = Preference(prompt=rows[0].prompt, chosen="A.", rejected="B.", topic=rows[0].topic)
    commands.curated(rows, [pair])
    said = commands.on_round("split")
    assert said.code == 0
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in said.out.splitlines()]
    table = {line[0]: line[1:] for line in cells if line}
    numbers = [int(n) for n in table["rows"]]
    assert sum(numbers) == len(rows) and numbers[2] >= 0.2 * len(rows)
    assert sum(int(n) for n in table["preference pairs"]) == 1
    assert sorted(n for n in table["Desk posture"] if n) == ["10"]
    assert said.out.splitlines()[-1] == str(commands.folder() / "split")


def test_the_rounds_own_split_has_no_leak_and_says_what_was_compared(
    commands: Commands, rows: list[Example]
) -> None:
    commands.curated(rows)
    commands.on_round("split")
    said = commands.on_round("split", "--check")
    assert said.code == 0
    assert said.out.startswith(
        f"no leak: {len(rows) + PROBES} rows in 7 files of round-001 (train "
    )
    assert len(said.out.splitlines()) == 1


def test_a_row_moved_by_hand_is_found_by_its_topic_and_its_file(
    commands: Commands, rows: list[Example]
) -> None:
    commands.curated(rows)
    commands.on_round("split")
    folder = commands.folder() / "split"
    train = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    with (folder / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write(train[4] + "\n")
    said = commands.on_round("split", "--check")
    assert said.code == 1
    assert f"{folder}/train.jsonl:5" in said.out
    assert "same row" in said.out and "same topic" in said.out


def test_splits_stay_in_a_later_round_and_a_row_between_two_splits_goes(
    commands: Commands, rows: list[Example]
) -> None:
    commands.curated(rows[:100])
    commands.on_round("split")
    before = _splits(commands, 1)
    split_by_topic = {row.topic: before[row.id] for row in rows[:100]}
    held = next(row for row in rows[:100] if before[row.id] == "test")
    trained = next(topic for topic, split in split_by_topic.items() if split == "train")
    joins = Example(prompt=held.prompt, answer="Both, champ.", topic=trained, source="new.jsonl:1")
    commands.curated([*rows, joins], number=2)
    said = commands.on_round("split", "--seed", "7", number=2)
    assert said.code == 0
    assert "dropped new.jsonl:1: joins_two_splits, related to round-001 seeds.jsonl:" in said.out
    after = _splits(commands, 2)
    assert {row.id: after[row.id] for row in rows if row.topic in split_by_topic} == {
        row.id: split_by_topic[row.topic] for row in rows if row.topic in split_by_topic
    }
    assert joins.id not in after
    check = commands.on_round("split", "--check", number=2)
    assert check.code == 0
    assert "14 files of round-001, round-002" in check.out


def test_a_round_in_other_splits_than_an_earlier_one_leaks(
    commands: Commands, rows: list[Example]
) -> None:
    commands.curated(rows, number=2)
    commands.on_round("split", number=2)
    commands.curated(rows, number=1)
    commands.on_round("split", "--seed", "3", number=1)
    said = commands.on_round("split", "--check")
    assert said.code == 1
    assert "same row" in said.out
    assert commands.on_round("split", number=2).code == 0, (
        "its inputs have changed: it is done again"
    )
    assert commands.on_round("split", "--check").code == 0


def _foreign(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_files_of_others_are_compared_across_shapes(commands: Commands, tmp_path: Path) -> None:
    question = "What is the best way to warm up before a run?"
    alpaca = _foreign(
        tmp_path / "alpaca_train.jsonl",
        {"instruction": "Name three squat errors.", "input": "", "output": "..."},
        {"instruction": question, "input": "", "output": "..."},
    )
    chat = _foreign(
        tmp_path / "chat.jsonl",
        {
            "messages": [
                {"role": "user", "content": "Before a run, what is the best way to warm up?"}
            ]
        },
    )
    said = commands.run("split", "--check", alpaca, "--split", f"test={chat}")
    assert said.code == 1
    assert f"{alpaca}:2" in said.out and f"{chat}:1" in said.out
    assert "question nearly the same" in said.out and "1.00" in said.out
    lone = commands.run("split", "--check", "--split", f"test={alpaca}")
    assert "all files are of the split 'test', so nothing can leak" in lone.err
    grpo = _foreign(tmp_path / "grpo-test.jsonl", {"prompt": "How much water do I need?"})
    clean = commands.run("split", "--check", alpaca, grpo)
    assert (clean.code, clean.out) == (
        0,
        "no leak: 3 rows in 2 files (train 2, validation 0, test 1), similarity 0.60\n",
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["split", "--check", "rows.jsonl"], "rows.jsonl: there is no such file"),
        (["split", "train.jsonl"], "train.jsonl: files are compared, not split — add --check"),
        (["split", "--check", "--split", "trian=a"], "there is no split 'trian' — did you mean"),
        (["split", "--check", "--split", "train"], "--split: 'train' names no file"),
        (["split", "--check", "docs/index.md"], "docs/index.md: its name does not say which split"),
        (["split", "--check"], "no round of this persona is split yet"),
    ],
)
def test_mistakes_are_told(
    commands: Commands, tmp_path: Path, arguments: list[str], what: str
) -> None:
    extra = [] if len(arguments) > 2 or "--check" not in arguments else ["--runs", str(tmp_path)]
    said = commands.run(*arguments, *extra)
    assert said.code == 2
    assert what in said.err


def test_a_pair_and_its_question_are_in_one_split(commands: Commands, rows: list[Example]) -> None:
    pairs = [
        Preference(prompt=row.prompt, chosen=row.answer, rejected="No.", parents=(row.id,))
        for row in rows[:40]
    ]
    commands.curated([row.evolve(topic="") for row in rows], pairs)
    commands.on_round("split")
    splits = _splits(commands, 1)
    by_question = {row.prompt: splits[row.evolve(topic="").id] for row in rows}
    assert {splits[pair.id] == by_question[pair.prompt] for pair in pairs} == {True}
