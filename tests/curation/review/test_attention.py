"""The order of a queue with a budget: signs of a change, and a half that is drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.review.attention import queue_order, random_order, worths
from curation.review.reliability import Gold, with_gold_rows
from workbench.persona import Persona, load_persona
from workbench.records import Example, user_prompt

PERSONA = Path(__file__).resolve().parents[3] / "datasets" / "gym-trainer"


@pytest.fixture(scope="module")
def coach() -> Persona:
    return load_persona(PERSONA)


def _row(number: int, answer: str = "", topic: str = "desk_posture", kind: str = "") -> Example:
    text = answer or f"Champ, stand up and roll your shoulders {number} times. 💪"
    return Example(prompt=user_prompt(f"Question {number}?"), answer=text, topic=topic, kind=kind)


def test_every_second_place_is_drawn_at_random(coach: Persona) -> None:
    rows = [_row(number) for number in range(40)]
    queue = queue_order(coach, rows, "round-001")
    assert sorted(row.id for row in queue) == sorted(row.id for row in rows)
    assert queue == queue_order(coach, rows[::-1], "round-001") != queue_order(coach, rows, "r2")
    drawn = [row.id for row in random_order(rows, "round-001")]
    for place in (10, 20, 40):
        first = {row.id for row in queue[:place]}
        assert set(drawn[: place // 2]) <= first, "the sample is seen whole"


def test_signs_of_a_change_come_first(coach: Persona) -> None:
    plain = [_row(number) for number in range(12)]
    odd = _row(99, "Zyklus Quark.", topic="rare", kind="adversarial")
    worth = worths(coach, [*plain, odd], {plain[3].id: 0.0})
    for name in ("traits_missed", "novelty", "rarity"):
        assert int(np.argmax(worth[name])) == 12, name
    assert int(np.argmax(worth["judge_and_rules"])) == 3
    assert queue_order(coach, [*plain, odd], "round-001")[0] == odd
    assert queue_order(coach, [], "round-001") == []
    assert queue_order(coach, [odd], "round-001") == [odd]


def test_gold_rows_leave_the_order_of_a_queue_as_it_is() -> None:
    rows, gold = [_row(number) for number in range(30)], Gold(tuple(map(_row, (91, 92, 93))))
    pushed = with_gold_rows(rows, gold, "round-001", in_order=True)
    assert [row for row in pushed if row not in gold.examples] == rows
    assert len(pushed) == 33 and pushed[:3] != list(gold.examples)
