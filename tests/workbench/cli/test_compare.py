"""Two rounds by hand: one answer edited, one row dropped, one added, one decided otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from workbench.cli.compare import compare
from workbench.errors import UserError
from workbench.records import Decision, Drop, Example, Response, Score, user_prompt
from workbench.store import atomic_file, write_records

KEPT, DROPPED = "how many squats?", "is sugar bad?"


def _row(question: str, answer: str = "Ten, champ.") -> Example:
    return Example(prompt=user_prompt(question), answer=answer)


def _evaluated(row: Example, value: float) -> tuple[Response, Score]:
    response = Response(arm="sft", prompt_id=row.id, prompt=row.prompt, text=f"said {value}")
    score = Score(arm="sft", prompt_id=row.id, response=response.id, metric="fidelity", value=value)
    return response, score


def _round(
    folder: Path,
    train: list[Example],
    test: list[Example],
    *,
    values: list[float],
    rate: float,
    decided: dict[str, Any],
) -> None:
    write_records(folder / "split/train.jsonl", train)
    write_records(folder / "split/validation.jsonl", [])
    write_records(folder / "split/test.jsonl", test)
    decisions = [Decision(record=record, outcome=outcome) for record, outcome in decided.items()]
    write_records(folder / "resolve/decisions.jsonl", decisions)
    with atomic_file(folder / "sft/recipe.yaml") as file:
        file.write(f"method: sft\ntrainer:\n  learning_rate: {rate}\n  max_steps: 4\n")
    found = [_evaluated(row, value) for row, value in zip(test, values, strict=True)]
    write_records(folder / "evaluate/responses.jsonl", [response for response, _ in found])
    write_records(folder / "evaluate/scores.jsonl", [score for _, score in found])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    persona = tmp_path / "gym-trainer"
    held = [_row(f"held-out question {n}") for n in range(6)]
    kept, dropped = _row(KEPT), _row(DROPPED)
    first, second = persona / "round-001", persona / "round-002"
    _round(
        first,
        [kept, dropped],
        held,
        values=[0.2, 0.3, 0.2, 0.4, 0.3, 0.2],
        rate=0.002,
        decided={held[0].id: "keep"},
    )
    # An edited reference answer does not make it another prompt.
    again = [_row("held-out question 0", "Another answer."), *held[1:]]
    _round(
        second,
        [_row(KEPT, "Twelve, champ."), _row("may I stretch?")],
        again,
        values=[0.7, 0.8, 0.7, 0.9, 0.8, 0.6],
        rate=0.001,
        decided={held[1].id: "queue"},
    )
    drop = Drop(record=dropped.id, stage="resolve", reason="unsafe_advice")
    write_records(second / "resolve/drops.jsonl", [drop])
    return tmp_path


def _compared(runs: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_said(runs, "--json"))
    return found


def _said(runs: Path, *options: str) -> str:
    arguments = ["1", "2", "--persona", "datasets/gym-trainer", "--runs", str(runs), *options]
    result = CliRunner().invoke(compare, arguments, catch_exceptions=False)
    return result.output


def test_rows_are_told_as_added_dropped_with_the_reason_and_edited(runs: Path) -> None:
    found = _compared(runs)
    assert list(found["added"].values()) == ["may I stretch?"]
    assert list(found["dropped"].values()) == ["unsafe_advice"]
    assert [edit[0] for edit in found["edited"]] == [KEPT, "held-out question 0"]
    assert found["rows"] == [8, 8]


def test_a_recipe_differs_by_its_dotted_key(runs: Path) -> None:
    assert _compared(runs)["recipes"] == {"sft": {"trainer.learning_rate": [0.002, 0.001]}}


def test_scores_are_paired_by_prompt_with_an_interval(runs: Path) -> None:
    (difference,) = _compared(runs)["scores"]
    assert (difference["arm"], difference["pairs"]) == ("sft", 6)
    assert difference["mean"] == pytest.approx((0.5 * 5 + 0.4) / 6)
    assert 0.4 <= difference["low"] <= difference["high"] <= 0.5


def test_two_causes_at_once_are_not_put_down_to_one(runs: Path) -> None:
    assert "cannot be put down to one" in _said(runs)


def test_a_round_that_is_not_there_is_one_line(runs: Path) -> None:
    with pytest.raises(UserError, match="there is no round 3"):
        CliRunner().invoke(
            compare,
            ["1", "3", "--persona", "datasets/gym-trainer", "--runs", str(runs)],
            catch_exceptions=False,
        )
