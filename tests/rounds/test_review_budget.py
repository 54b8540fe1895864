"""A budget of reviews: which rows are pushed, and what is said of the ones that are not."""

from __future__ import annotations

import pytest

from app.cli.review_tables import outlook_lines
from rounds.layout import FILTERED, REVIEWS
from rounds.review_rows import review_rows
from rounds.reviewing import outlook
from tests.commands import Workspace
from tests.reviewed_round import write_reviewed


@pytest.fixture
def reviewed(workspace: Workspace) -> Workspace:
    write_reviewed(workspace)
    return workspace


def test_a_budget_pushes_as_many_rows_as_it_is_enough_for(reviewed: Workspace) -> None:
    context = reviewed.context(review={"budget": 40})
    rows = review_rows(context, context.round, people=True)
    assert len(rows.asked) == 20 and len(rows.candidates) == 60
    pushed = rows.pushed(context.round.name)
    assert [row for row in pushed if row.id not in rows.gold.outcomes] == rows.asked
    assert len(pushed) == 20 + len(rows.gold.examples)
    whole = reviewed.context()
    assert review_rows(whole, whole.round, people=True).asked == context.round.read(FILTERED)


def test_the_outlook_follows_the_reviews(reviewed: Workspace) -> None:
    context = reviewed.context(review={"budget": 120})
    reviews = context.round.read(REVIEWS)
    assert outlook(reviewed.context(), reviews) is None, "no part of the rows stands for all"
    every = outlook(context, reviews)
    assert every and (every.advice, every.rows, every.rest) == ("all_reviewed", 60, 0)
    queue = [row.id for row in review_rows(context, context.round, people=True).asked]
    few = outlook(context, [one for one in reviews if one.record in queue[:20]])
    assert few and few.advice == "too_early"
    assert "Too early to say" in outlook_lines(few)[-1]
    most = outlook(context, [one for one in reviews if one.record in queue[:50]])
    assert most and most.hidden and most.rest == 10
    assert most.hidden[0] <= most.hidden[1] <= 10
    assert f"{most.hidden[0]} to {most.hidden[1]} of the 10" in outlook_lines(most)[0]
