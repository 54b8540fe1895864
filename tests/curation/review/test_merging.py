"""Reviews of a round and of a server in one: nothing that was pulled is lost, and all is told."""

from __future__ import annotations

from typing import Any

from curation.review.merging import Merged, ServerReviews, merge
from workbench.records import Review

ROWS = ("ex-1", "ex-2")
BOTH = frozenset({"ann", "bob"})


def review(reviewer: str, record: str, minute: int = 1, status: object = "submitted") -> Review:
    return Review(
        reviewer=reviewer,
        record=record,
        status=status,
        answers={"fidelity": minute % 5 + 1},
        at=f"2026-01-01T10:{minute:02d}:00.12345{int(record[-1])}+00:00",
    )


BEFORE = [review(who, row, minute) for minute, who in enumerate(("ann", "bob")) for row in ROWS]


def server(*reviews: Review, accounts: frozenset[str] = BOTH, **places: Any) -> ServerReviews:
    return ServerReviews(list(reviews), accounts=accounts, **places)


def places(merged: Merged) -> list[tuple[str, str]]:
    return [(one.record, one.reviewer) for one in merged.reviews]


ALL = sorted((row, who) for row in ROWS for who in BOTH)


def test_what_is_the_same_stays_and_what_is_new_is_added_without_a_word() -> None:
    late = review("cem", "ex-1", 9)
    merged = merge(BEFORE, server(*BEFORE, late, accounts=BOTH | {"cem"}))
    assert sorted(places(merged)) == sorted([*ALL, ("ex-1", "cem")])
    assert (merged.lines, merged.lost, merged.gone) == ([], [], frozenset())
    assert merge([], server(*BEFORE)).reviews == merge(BEFORE, server(*BEFORE)).reviews


def test_a_deleted_accounts_reviews_stay_and_nobody_can_be_asked_for_more() -> None:
    merged = merge(BEFORE, server(*BEFORE[:2], accounts=frozenset({"ann"})))
    assert places(merged) == ALL
    assert merged.lines == [
        "2 reviews of accounts that are gone from the server: kept as pulled: bob 2"
    ]
    assert merged.lost == [] and merged.gone == {"bob"}
    assert merged.cover(ROWS, 2) and not merged.cover([*ROWS, "ex-3"], 1)


def test_an_empty_server_takes_nothing_away() -> None:
    merged = merge(BEFORE, server())
    assert merged.reviews == sorted(BEFORE, key=lambda one: (one.record, one.reviewer))
    assert merged.lines == ["4 reviews gone from the server: kept as pulled: ann 2, bob 2"]
    assert merged.lost == BEFORE


def test_of_two_answers_the_newer_counts_whichever_side_it_is_on() -> None:
    newer, older = review("ann", "ex-1", 7), review("bob", "ex-2", 0, "discarded")
    merged = merge(BEFORE, server(newer, BEFORE[1], BEFORE[2], older))
    assert newer in merged.reviews and older not in merged.reviews and BEFORE[3] in merged.reviews
    assert merged.lines == [
        "1 review older on the server than in the round: the round's own kept: bob 1",
        "1 review changed since the last pull: the newer counts: ann 1",
    ]


def test_a_copy_of_the_same_answers_changes_nothing() -> None:
    copies = [one.evolve(at=f"2026-02-02T00:00:00.00000{n}+00:00") for n, one in enumerate(BEFORE)]
    assert merge(BEFORE, server(*copies)) == merge(BEFORE, server(*BEFORE))


def test_a_draft_after_a_submission_leaves_the_submission() -> None:
    merged = merge(BEFORE, server(*BEFORE[1:], drafts=frozenset({("ex-1", "ann")})))
    assert places(merged) == ALL and merged.lost == []
    assert merged.lines == ["1 review in draft again on the server: kept as submitted: ann 1"]


def test_a_renamed_account_is_the_same_reviewer_and_its_old_name_may_become_anothers() -> None:
    renamed = [one.evolve(reviewer="eva") if one.reviewer == "ann" else one for one in BEFORE]
    late = review("eva", "ex-3", 8)
    merged = merge(BEFORE, server(*renamed, late, accounts=frozenset({"eva", "bob"})))
    assert places(merged) == [*ALL, ("ex-3", "ann")]
    assert merged.lines == ["ann is called eva on the server now: the round keeps the name ann"]
    another = review("ann", "ex-1", 9)
    accounts = BOTH | {"eva"}
    both = merge(merged.reviews, server(*renamed, late, another, accounts=accounts))
    assert set(places(both)) == {*ALL, ("ex-3", "ann"), ("ex-1", "ann (2)")}
    again = merge(both.reviews, server(*renamed, late, another, accounts=accounts))
    assert again.reviews == both.reviews
    swapped = [one.evolve(reviewer={"ann": "bob", "bob": "ann"}[one.reviewer]) for one in BEFORE]
    assert merge(BEFORE, server(*swapped)).reviews == merge(BEFORE, server(*BEFORE)).reviews
