"""`persona compare`: what it prints, and a round that is not there."""

from __future__ import annotations

import json

from tests.commands import Commands, write_manifest
from tests.written_rounds import TRAIN, row, written_round
from workbench.store import atomic_file, write_records


def _two_rounds(commands: Commands) -> None:
    """Write two rounds that differ in a row, a step size and an evaluation's decoding."""
    for number, (rate, missed) in enumerate(((0.002, 16), (0.001, 2)), start=1):
        folder = written_round(commands.folder(number), missed={"why": missed})
        with atomic_file(folder / "sft/recipe.yaml") as file:
            file.write(f"method: sft\ntrainer: {{learning_rate: {rate}}}\n")
        write_manifest(folder, "evaluate", settings={"max_new_tokens": 8 * number})
    rows = [row(topic, n) for topic in TRAIN for n in range(11)]
    write_records(commands.folder(2) / "split/train.jsonl", rows)


def test_rows_recipes_and_scores_are_printed_with_what_cannot_be_told(commands: Commands) -> None:
    _two_rounds(commands)
    output = commands.run("compare", "1", "2", "--metric", "why", "--runs", str(commands.runs))
    assert output.code == 0
    assert "Rows: 50 in round-001, 53 after\n  3 added\n" in output.out
    assert "sft trainer.learning_rate: 0.002 → 0.001" in output.out
    assert "+0.700" in output.out
    assert "Rows and recipe both changed: the difference cannot be put down to one." in output.out
    assert "Evaluated otherwise (decoding): the difference may come of that" in output.out
    other = commands.run("compare", "1", "2", "--metric", "chrf", "--runs", str(commands.runs))
    assert "Scores: none of chrf; there are " in other.out


def test_json_holds_the_same(commands: Commands) -> None:
    _two_rounds(commands)
    output = commands.run("compare", "1", "2", "--json", "--runs", str(commands.runs))
    data = json.loads(output.out)
    assert (data["rows"], data["without"]) == ([50, 53], [])
    assert {"arm", "metric", "mean", "low", "high", "p"} <= data["scores"][0].keys()


def test_a_round_that_is_not_there_is_one_line(commands: Commands) -> None:
    written_round(commands.folder())
    output = commands.run("compare", "1", "3", "--runs", str(commands.runs))
    assert (output.code, output.err.count("\n")) == (2, 1)
    assert "there is no round 3 — there are round-001" in output.err
