"""`persona split`: its tables, `--check`, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.curation.review_team import seeds


@pytest.fixture
def curated(commands: Commands) -> Commands:
    commands.curated(seeds(commands.repo / "datasets" / "gym-trainer"))
    return commands


def test_sizes_are_printed_by_topic_and_split(curated: Commands) -> None:
    output = curated.on_round("split")
    assert output.code == 0
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in output.out.splitlines()]
    table = {line[0]: line[1:] for line in cells if line}
    gone = [line for line in output.out.splitlines() if line.startswith("dropped ")]
    assert all(": asks_the_same, 0." in line and "alike to" in line for line in gone)
    assert sum(int(n) for n in table["rows"]) + len(gone) == len(
        seeds(curated.repo / "datasets" / "gym-trainer")
    )
    assert sorted(n for n in table["Desk posture"] if n) == ["10"]
    assert output.out.splitlines()[-1] == str(curated.folder() / "split")


def test_a_check_says_in_one_line_what_was_compared(curated: Commands) -> None:
    curated.on_round("split")
    output = curated.on_round("split", "--check")
    assert output.code == 0
    assert (
        output.out.startswith("no leak: ") and " rows in 7 files of round-001 (train " in output.out
    )
    assert len(output.out.splitlines()) == 1


def test_a_leak_is_printed_with_its_places_and_is_exit_code_1(curated: Commands) -> None:
    curated.on_round("split")
    folder = curated.folder() / "split"
    train = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    with (folder / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write(train[4] + "\n")
    output = curated.on_round("split", "--check")
    assert output.code == 1
    assert f"{folder}/train.jsonl:5" in output.out
    assert "same row" in output.out and "same topic" in output.out


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
    output = commands.run("split", "--check", alpaca, "--split", f"test={chat}")
    assert output.code == 1
    assert f"{alpaca}:2" in output.out and f"{chat}:1" in output.out
    assert "question nearly the same" in output.out and "1.00" in output.out
    lone = commands.run("split", "--check", "--split", f"test={alpaca}")
    assert "all files are of the split 'test', so nothing can leak" in lone.err
    grpo = _foreign(tmp_path / "grpo-test.jsonl", {"prompt": "How much water do I need?"})
    clean = commands.run("split", "--check", alpaca, grpo)
    assert (clean.code, clean.out) == (
        0,
        "no leak: 3 rows in 2 files (train 2, validation 0, test 1), similarity 0.60,"
        " meaning by all-MiniLM-L6-v2\n",
    )


def test_a_reworded_test_question_in_training_is_a_leak(commands: Commands, tmp_path: Path) -> None:
    train = _foreign(
        tmp_path / "train.jsonl",
        {"prompt": "I'm ashamed that I'm unable to do even one push-up."},
        {"prompt": "After the office I always nap on the sofa and never make it to the gym."},
        {"prompt": "Which shoes should I wear for lifting weights?"},
    )
    test = _foreign(
        tmp_path / "test.jsonl",
        {"prompt": "I can't do a single push-up. Not one. It's embarrassing."},
        {"prompt": "I fall asleep on the couch after work and miss the gym every time."},
        {"prompt": "What can I eat at a wedding?"},
    )
    output = commands.run("split", "--check", train, test)
    assert output.code == 1
    for line in (1, 2):
        assert f"{train}:{line}" in output.out and f"{test}:{line}" in output.out
    assert output.out.count("asks the same in other words") == 2, "a wedding is no leak"
    assert "2 leaks: 6 rows" in output.out and "meaning by all-MiniLM-L6-v2" in output.out


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
    output = commands.run(*arguments, *extra)
    assert output.code == 2
    assert what in output.err
