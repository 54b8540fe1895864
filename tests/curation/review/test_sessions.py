"""Pace and movement of reviewers, from the times of their submissions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from curation.review.sessions import (
    BREAK,
    TOO_FAST,
    by_session,
    movements,
    paces,
    reading_seconds,
)
from curation.review.votes import votes_of
from workbench.config import Policy
from workbench.records import Example, Review, user_prompt

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ROWS = [
    Example(prompt=user_prompt(f"Question {n}?"), answer="word " * (20 + 4 * n)) for n in range(40)
]


def _reviews(seconds: Sequence[float], ratings: Sequence[int] = (), who: str = "a") -> list[Review]:
    at, reviews = START, []
    for place, one in enumerate(seconds):
        at += timedelta(seconds=one)
        answers = {"fidelity": ratings[place] if ratings else 4}
        record = ROWS[place].id
        reviews.append(Review(reviewer=who, record=record, answers=answers, at=at.isoformat()))
    return reviews


def test_the_same_text_takes_as_long_in_korean() -> None:
    english = "Hey champ, your wrists are sore because you type all day without a break."
    korean = "챔피언님, 쉬지 않고 하루 종일 타자를 치니까 손목이 아픈 거예요."
    assert reading_seconds(korean) == pytest.approx(reading_seconds(english), rel=0.3)
    assert reading_seconds("word " * 238) == pytest.approx(60, rel=0.01)


def test_pace_is_of_sessions_by_length_with_the_share_not_read() -> None:
    slow = [30.0] * 20 + [BREAK * 5] + [40.0] * 19
    fast = [float(one) for one in [2.0] * 30 + [60.0] * 10]
    own = paces(ROWS, [*_reviews(slow), *_reviews(fast, who="b")])
    # The first of each session has no time: nobody knows when it was opened.
    assert own["a"].rows == 38 and own["b"].rows == 39
    assert own["a"].too_fast.value == 0
    assert own["a"].by_length == {"short": 30, "middle": 30, "long": 40}
    assert own["b"].median == 2
    unread = [
        place
        for place in range(1, 30)
        if reading_seconds(f"{ROWS[place].question}\n{ROWS[place].answer}") > 2.0 * TOO_FAST
    ]
    assert own["b"].too_fast.value == pytest.approx(len(unread) / 39)
    assert own["b"].too_fast.low is not None and own["b"].too_fast.low > 0.4


def test_what_a_program_submitted_has_no_pace() -> None:
    assert by_session(_reviews([0.01] * 40)) == {}
    assert by_session([Review(reviewer="a", record="x", answers={"fidelity": 3})]) == {}
    assert paces(ROWS, _reviews([5.0])) == {}


def test_votes_that_sink_over_a_session_are_told_from_steady_ones() -> None:
    tired = _reviews([20.0] * 40, [5] * 20 + [2] * 20)
    steady = _reviews([20.0] * 40, [5, 4] * 20, who="b")
    every = [*tired, *steady]
    gold = {row.id: "keep" for row in ROWS[:40:2]}
    moved = movements(every, votes_of(every), Policy(), gold)
    rating = moved["a"]["rating"]
    assert (rating.before, rating.after, rating.moved) == (5, 2, True)
    assert moved["a"]["kept"].difference == moved["a"]["right"].difference == -1
    assert not any(one.moved for one in moved["b"].values())
    assert movements(every[:12], votes_of(every), Policy(), gold) == {}
