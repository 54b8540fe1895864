"""When a review may stop: what the rows that nobody has seen would bring, and when nobody knows."""

from __future__ import annotations

import numpy as np
import pytest

from curation.review.stopping import FEWEST_SAMPLED, TOLERATED, StopAdvice, sampled, stop_advice
from curation.review.votes import ReviewVote
from workbench.config import Policy
from workbench.stats.agreement import RaterAgreement

ORDER = [f"ex-{number:04}" for number in range(400)]
AGREED = RaterAgreement(value=0.85, low=0.75, high=0.92, rows=60)


def _votes(
    records: list[str], changed: set[str], *, reviewers: int = 2
) -> dict[str, list[ReviewVote]]:
    return {
        record: [
            ReviewVote(
                review=f"rv-{record}-{who}",
                reviewer=f"reviewer-{who}",
                record=record,
                fidelity=1 if record in changed else 5,
                problems=frozenset(),
                corrected="",
                better="",
                note="",
            )
            for who in range(reviewers)
        ]
        for record in records
    }


def _advice(
    seen: int, changed: int, *, agreement: RaterAgreement = AGREED, **options: str
) -> StopAdvice:
    records = ORDER[:seen]
    every = seen // changed if changed else 0
    votes = _votes(records, set(records[::every][:changed]) if every else set())
    return stop_advice(ORDER, votes, Policy(), agreement, needed=2, **options)  # type: ignore[arg-type]


def test_of_few_rows_nothing_is_said() -> None:
    advice = _advice(FEWEST_SAMPLED - 1, 0)
    assert (advice.advice, advice.decisions, advice.hidden) == ("too_early", "unknown", None)
    assert _advice(200, 0, agreement=RaterAgreement(rows=3)).advice == "too_early"


def test_one_may_stop_where_what_is_hidden_is_little() -> None:
    advice = _advice(200, 2)
    assert advice.advice == "may_stop" and advice.decisions == advice.agreement == "no"
    assert advice.hidden is not None and advice.hidden[1] <= TOLERATED * len(ORDER)
    assert advice.rest == 200


def test_how_many_are_left_is_enough_to_stop() -> None:
    advice = _advice(100, 20)
    assert (advice.advice, advice.decisions) == ("more", "yes")
    assert advice.more is not None and advice.hidden is not None
    share = advice.hidden[1] / advice.rest
    assert (advice.rest - advice.more) * share <= TOLERATED * len(ORDER) + 1


def test_agreement_on_the_edge_and_a_curve_that_rises_ask_for_more() -> None:
    edge = RaterAgreement(value=0.7, low=0.55, high=0.8, rows=100)
    advice = _advice(200, 2, agreement=edge)
    assert (advice.advice, advice.agreement) == ("more", "yes") and advice.more
    # A guide that people don't agree on is not mended by more reviews.
    poor = RaterAgreement(value=0.3, low=0.2, high=0.4, rows=100)
    assert _advice(200, 2, agreement=poor).advice == "may_stop"
    assert _advice(200, 2, curve="yes").more == 200
    assert _advice(200, 2, curve="no").advice == "may_stop"


def test_all_reviewed_needs_no_advice() -> None:
    advice = _advice(400, 40)
    assert (advice.advice, advice.hidden, advice.more) == ("all_reviewed", (0, 0), 0)


def test_rows_that_were_put_first_do_not_stand_for_the_others() -> None:
    first = ORDER[:40] + ORDER[200:300]
    assert sampled(ORDER, set(first)) == ORDER[:40]
    # One that everybody discarded does not end the sample.
    assert sampled(ORDER, set(first) - {ORDER[5]}) == ORDER[:5] + ORDER[6:40]
    assert sampled(ORDER, set(ORDER[200:300])) == []


@pytest.mark.parametrize("share", [0.04, 0.1, 0.2])
def test_whoever_asks_after_every_pull_is_seldom_told_to_stop_too_early(share: float) -> None:
    rng = np.random.default_rng(0)
    early, trials, rows = 0, 30, 200
    for _ in range(trials):
        changed = {ORDER[place] for place in np.flatnonzero(rng.random(rows) < share)}
        votes = _votes(ORDER[:rows], changed)
        for seen in range(FEWEST_SAMPLED, rows + 1, 20):
            some = {record: votes[record] for record in ORDER[:seen]}
            advice = stop_advice(ORDER[:rows], some, Policy(), AGREED, needed=2)
            if advice.advice == "may_stop":
                early += len(changed.difference(ORDER[:seen])) > TOLERATED * rows
                break
    assert early <= 0.15 * trials  # 7 % in 400 trials of a simulation; by chance more of 30
