"""Two rounds by hand: one answer edited, one row dropped, one added, one decided otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rounds.ablation import as_made
from rounds.comparison import RoundComparison, compare_rounds
from rounds.context import open_context
from rounds.layout import RoundFolder
from tests.commands import write_manifest
from tests.written_rounds import scored
from workbench.records import Decision, Drop, Example, Response, Score, user_prompt
from workbench.stats import compare
from workbench.store import atomic_file, read_records, write_json, write_records

KEPT, DROPPED = "how many squats?", "is sugar bad?"


def _row(question: str, answer: str = "Ten, champ.") -> Example:
    return Example(prompt=user_prompt(question), answer=answer)


def _evaluated(row: Example, value: float, seed: int = 0) -> tuple[Response, Score]:
    text = f"said {value}"
    response = Response(arm="sft", prompt_id=row.id, prompt=row.prompt, text=text, seed=seed)
    score = Score(arm="sft", prompt_id=row.id, response=response.id, metric="fidelity", value=value)
    return response, score


def _round(
    folder: Path,
    train: list[Example],
    test: list[Example],
    *,
    values: list[float],
    rate: float,
    decided: dict[str, object],
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


def _compared(runs: Path) -> RoundComparison:
    first, second = (RoundFolder.open(runs / "gym-trainer", number) for number in (1, 2))
    return compare_rounds(first, second, seed=0)


def test_rows_are_told_as_added_dropped_with_the_reason_and_edited(runs: Path) -> None:
    comparison = _compared(runs)
    assert list(comparison.added.values()) == ["may I stretch?"]
    assert list(comparison.dropped.values()) == ["unsafe_advice"]
    assert [edit.question for edit in comparison.edited] == [KEPT, "held-out question 0"]
    assert comparison.rows == (8, 8)


def test_rows_that_were_added_and_left_out_are_told_with_the_reason(runs: Path) -> None:
    first, second = (runs / f"gym-trainer/round-00{number}" for number in (1, 2))
    old, new, masked, waits = (_row(f"imported {n}?") for n in range(4))
    after = masked.evolve(answer="Masked.", parents=(masked.id,))
    write_records(first / "import/examples.jsonl", [old])
    write_records(second / "import/examples.jsonl", [old, new, masked, waits])
    reasons = {new: "not_reviewed", after: "low_fidelity"}
    write_records(second / "filter/examples.jsonl", [old, new, after, waits])
    drops = [Drop.of(row, "resolve", reason, "") for row, reason in reasons.items()]
    asked = [Decision(record=waits.id, outcome="queue")]
    write_records(second / "resolve/decisions.jsonl", asked)
    write_records(second / "resolve/drops.jsonl", drops)
    assert _compared(runs).left_out == {
        new.id: "not_reviewed",
        masked.id: "low_fidelity",
        waits.id: "an adjudicator",
    }


def test_a_recipe_differs_by_its_dotted_key(runs: Path) -> None:
    assert _compared(runs).recipes == {"sft": {"trainer.learning_rate": (0.002, 0.001)}}


def test_scores_are_paired_by_prompt_with_an_interval(runs: Path) -> None:
    (difference,) = _compared(runs).scores
    assert (difference.arm, difference.pairs) == ("sft", 6)
    assert difference.mean == pytest.approx((0.5 * 5 + 0.4) / 6)
    assert difference.low is not None and difference.high is not None
    assert 0.4 <= difference.low <= difference.high <= 0.5


def test_rows_and_recipe_that_both_changed_are_two_causes(runs: Path) -> None:
    assert _compared(runs).has_two_causes


def _asked(folder: Path) -> list[Example]:
    return list(read_records(folder / "split/test.jsonl", Example))


def test_several_seeds_of_a_prompt_are_averaged(runs: Path) -> None:
    folder = runs / "gym-trainer/round-002"
    seeds = {1: 1.0, 2: 0.5}
    found = [_evaluated(row, value, n) for row in _asked(folder) for n, value in seeds.items()]
    write_records(folder / "evaluate/responses.jsonl", [response for response, _ in found])
    write_records(folder / "evaluate/scores.jsonl", [score for _, score in found])
    (difference,) = _compared(runs).scores
    # 0.75 on every prompt, against the first round's mean of 1.6 / 6.
    assert difference.pairs == 6
    assert difference.mean == pytest.approx(0.75 - 1.6 / 6)


def test_a_judge_that_does_not_count_is_in_no_fidelity_and_its_change_is_told(runs: Path) -> None:
    """In the second round the untrusted judge sees warmth everywhere, and nothing else changed."""
    for number, warmth in ((1, 0.0), (2, 1.0)):
        folder = runs / f"gym-trainer/round-{number:03d}"
        responses = [_evaluated(row, number)[0] for row in _asked(folder)]
        scores = [s for one in responses for s in scored(one, {"why": 1.0, "warmth": warmth})]
        write_records(folder / "evaluate/responses.jsonl", responses)
        write_records(folder / "evaluate/scores.jsonl", scores)
        own = compare(scores, "sft", responses=responses, traits=["why"])
        write_json(folder / "evaluate/comparison.json", own.model_dump(mode="json"))
        settings = {"model": "m", "judge": {"model": f"judge-{number}"}}
        write_manifest(folder, "evaluate", settings=settings)
    comparison = _compared(runs)
    means = {score.metric: score.mean for score in comparison.scores}
    assert means == {"why": 0.0, "warmth": 1.0, "fidelity": 0.0}
    assert comparison.evaluated_otherwise == ("judge",)


def test_a_second_answer_to_a_question_is_neither_lost_nor_told_as_an_edit(runs: Path) -> None:
    first, second = (runs / f"gym-trainer/round-{n:03d}/split/train.jsonl" for n in (1, 2))
    stays, other, added = _row(KEPT), _row(KEPT, "Eleven, champ."), _row(KEPT, "Nine, champ.")
    write_records(first, [stays, other])
    write_records(second, [stays])
    comparison = _compared(runs)
    assert comparison.dropped == {other.id: "not in the round"}
    assert [edit.question for edit in comparison.edited] == ["held-out question 0"]
    write_records(first, [stays])
    write_records(second, [stays, added])
    comparison = _compared(runs)
    assert (comparison.added, comparison.dropped) == ({added.id: KEPT}, {})


def test_a_round_is_trained_again_as_it_was_made_whatever_configuration_is_given(
    runs: Path,
) -> None:
    given = runs / "given.yaml"
    given.write_text("train: {sft: sft-embedded}\nseed: 1\n", encoding="utf-8")
    options: dict[str, Any] = {"persona": Path("datasets/gym-trainer"), "runs": runs}
    context = open_context(config=given, round_number=2, **options)
    assert as_made(context) == context  # nothing was written there
    made = runs / "gym-trainer/round-002/config.yaml"
    made.write_text("train: {sft: sft-continue-embedded}\n", encoding="utf-8")
    again = as_made(context).config
    assert (again.train.sft, again.seed) == ("sft-continue-embedded", 0)
    assert again.persona == Path("datasets/gym-trainer")
