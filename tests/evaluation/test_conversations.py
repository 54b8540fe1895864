"""Fidelity by turn, the first break and the survival curve, on conversations written out."""

from __future__ import annotations

import random

import pytest

from evaluation.conversations import measure_conversations, survival_curve
from workbench.persona import FIDELITY
from workbench.records import Response, Score, user_prompt
from workbench.stats import compare
from workbench.stats.comparison import DRIFT

Talk = list[float]
"""Fidelity turn by turn."""


def talks(arm: str, conversations: list[Talk], end: str = "") -> tuple[list[Response], list[Score]]:
    responses, scores = [], []
    for number, talk in enumerate(conversations):
        for turn, value in enumerate(talk, start=1):
            response = Response(
                arm=arm,
                prompt_id=f"ex-{number}",
                prompt=user_prompt(f"{number}.{turn}"),
                text=f"{arm} {number}.{turn}",
                probe=DRIFT,
                turn=turn,
                ended=end if turn == len(talk) else "",
            )
            responses.append(response)
            scores.append(
                Score(
                    arm=arm,
                    prompt_id=response.prompt_id,
                    response=response.id,
                    metric=FIDELITY,
                    value=value,
                    probe=DRIFT,
                    turn=turn,
                )
            )
    return responses, scores


def test_turns_breaks_and_ends_are_counted_by_conversation() -> None:
    responses, scores = talks("sft", [[1, 0.8, 0.4, 0.9], [1, 1], [0.2, 1, 0.3, 1]], "goal_met")
    (one,) = measure_conversations(responses, scores)
    assert one.conversations == 3
    assert [(p.turn, p.conversations) for p in one.turns] == [(1, 3), (2, 3), (3, 2), (4, 2)]
    assert one.turns[2].fidelity.mean == pytest.approx(0.35)
    low, high = one.turns[0].fidelity.low, one.turns[0].fidelity.high
    assert low is not None and high is not None and low < 2.2 / 3 < high
    assert one.first_breaks == {1: 1, 3: 1} and one.broken == 2
    assert one.ends == {"goal_met": 3}
    assert [(p.at_risk, p.breaks) for p in one.survival] == [(3, 1), (2, 0), (1, 1)]


def test_a_conversation_that_ended_unbroken_says_nothing_of_later_turns() -> None:
    """The product-limit estimate by hand: 5/6, then one of four that are left breaks in turn 3."""
    courses = [(4, 2), (2, None), (4, None), (4, 3), (4, None), (4, None)]
    points = survival_curve(courses)
    assert [p.share for p in points] == pytest.approx([1, 5 / 6, 5 / 8, 5 / 8])
    assert [p.at_risk for p in points] == [6, 6, 4, 3]
    assert all(p.low <= p.share <= p.high for p in points)
    assert points[0].low < 0.7  # six that held do not say that all others would


def test_without_an_early_end_the_interval_is_that_of_a_share() -> None:
    from workbench.stats.significance import share_interval

    last = survival_curve([(3, 2)] * 3 + [(3, None)] * 9)[-1]
    assert (last.low, last.high) == pytest.approx(share_interval(9, 12))


def test_none_that_holds_leaves_a_curve_at_zero() -> None:
    points = survival_curve([(3, 1), (3, 1)])
    assert [(p.share, p.low) for p in points] == [(0.0, 0.0)] and points[0].high > 0.3


def test_an_arm_against_itself_shows_no_drift() -> None:
    """Steady voice with noise: its own change holds 0, and between two names there is none."""
    draw = random.Random(5)
    steady = [[round(draw.uniform(0.5, 1), 2) for _ in range(6)] for _ in range(24)]
    parts = [talks(name, steady) for name in ("base", "sft")]
    responses = [one for own, _ in parts for one in own]
    scores = [one for _, own in parts for one in own]
    comparison = compare(scores, "base", responses=responses)
    for change in comparison.drift_change.values():
        assert change.low is not None and change.high is not None
        assert change.low < 0 < change.high and change.pairs == 24
    assert {c.difference.mean for c in comparison.drift if c.difference} == {0.0}
    own, other = measure_conversations(responses, scores)
    assert own.model_copy(update={"arm": "sft"}) == other


def test_drift_is_of_each_conversations_own_last_turn() -> None:
    responses, scores = talks("base", [[0.9, 0.5], [0.8, 0.8, 0.2], [1.0]])
    change = compare(scores, "base", responses=responses).drift_change["base"]
    assert change.pairs == 2 and change.mean == pytest.approx((-0.4 - 0.6) / 2)


def test_answers_of_no_conversation_are_passed_over() -> None:
    plain = Response(arm="sft", prompt_id="ex-1", prompt=user_prompt("?"), text="!")
    score = Score(arm="sft", prompt_id="ex-1", response=plain.id, metric=FIDELITY, value=1.0)
    assert measure_conversations([plain], [score]) == []
