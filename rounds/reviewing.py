"""What people do with a round's review beside the stages: push, pull, adjudicate, decide, move.

In: a round whose review server runs. Out: rows on the server, reviews in the round, and how the
decisions come out. ``persona review`` calls it; the stages ``review`` and ``resolve`` do the same
in a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from curation.argilla.client import Connection
from curation.argilla.migrate import Migrated, NewLogins, migrate
from curation.argilla.pull import review_progress, server_reviews
from curation.argilla.push import Pushed
from curation.argilla.recorded import recorded_of
from curation.argilla.server import start, status, stop
from curation.argilla.server_link import link_of
from curation.review.agreement import Agreement
from curation.review.attention import random_order
from curation.review.reliability import read_gold
from curation.review.sessions import Movement, ReviewPace, movements, paces
from curation.review.stopping import Answer, StopAdvice, stop_advice
from curation.review.votes import about, by_record, votes_of
from rounds.context import RoundContext
from rounds.human_reviews import held_reviews, pull_merged, put_back
from rounds.layout import DECISIONS, FILTERED, IMPORTED, RESOLVE_DROPS, REVIEWS, RoundFolder
from rounds.order import not_yet
from rounds.pipeline import run_spec, run_stages
from rounds.planning.next_round import planned_curve
from rounds.review_rows import check_splittable, review_rows
from rounds.review_server import ReviewServer
from rounds.stages.resolve import Reviewed, measure
from rounds.stages.review import by_people, push_rows, push_unsettled, review_stage
from workbench.errors import UserError
from workbench.records import Example, Review
from workbench.stats.agreement import RATINGS, alpha

_CURVE: dict[str, Answer] = {"more": "yes", "stop": "no", "unclear": "unknown"}
"""Advice of a learning curve → whether more rows would help."""
_PENDING = "new-logins.json"
"""New accounts of a migration that was interrupted, beside the server's data."""


def push_review(context: RoundContext) -> None:
    """Put the filtered rows into the round's dataset; twice adds nothing twice.

    In a round that has none yet, rows are imported, made by the teacher where there is one, and
    filtered first; rows that were imported since, and filters that were changed, are taken up. How
    many review each record is kept in the round.

    Raises:
        UserError: A guide that Argilla would refuse, the server does not run, or what one of the
            stages says.
    """
    from curation.argilla.dataset import check_guide

    check_guide(context.persona)
    generate = ("generate",) if context.config.teacher else ()
    if all(map(context.round.done, ("import", *generate, "filter"))):
        run_stages(context, ("import", "filter"))
    if context.round.has(FILTERED):
        unordered = review_rows(context, context.round, people=True, ordered=False)
        check_splittable(context, unordered)
    connection = ReviewServer.of(context).connect()
    if not context.round.has(FILTERED):
        run_stages(context, ("import", *generate, "filter"))
    rows = review_rows(context, context.round, people=True)
    check_splittable(context, rows)
    push_rows(context, connection, rows)
    before, _ = held_reviews(context, people=True)
    if before:  # of an earlier push: nobody is asked twice
        merged = pull_merged(context, connection, context.round.name, before)
        put_back(context, connection, merged.lost, rows.pushed(context.round.name))
    with context.round.locked():
        context.remember()
    at = connection, context.persona, context.round.name
    ReviewServer.of(context).print_link(review_progress(*at).url)


def pull_reviews(context: RoundContext) -> None:
    """Pull what people answered so far into the round; twice gives the same file.

    Raises:
        UserError: The server does not run.
    """
    check_pushed(context.round)
    ReviewServer.of(context).connect()
    waiting = context.with_settings("review", people=True)
    run_spec(waiting, review_stage(waiting, wait=False))


@dataclass(frozen=True)
class ReviewState:
    """What the owner of a review is shown of it beside its progress."""

    advice: StopAdvice | None
    """Whether more reviews would change anything; None without a budget."""
    paces: dict[str, ReviewPace]
    """Reviewer → pace; never shown to reviewers."""


def review_state_now(context: RoundContext) -> ReviewState:
    """Return what follows from the reviews that the review server holds at this moment.

    Raises:
        UserError: The server does not run, or the round was not pushed.
    """
    connection = ReviewServer.of(context).connect()
    reviews = server_reviews(connection, context.persona, context.round.name).reviews
    if not context.round.has(FILTERED):  # pushed from another machine: the rows are not here
        return ReviewState(None, {})
    rows = review_rows(context, context.round, people=by_people(context), ordered=False)
    own = by_hand(context, rows.candidates, reviews)
    return ReviewState(
        outlook(context, reviews), paces([*rows.candidates, *rows.gold.examples], own)
    )


def by_hand(
    context: RoundContext, rows: Sequence[Example], reviews: Sequence[Review]
) -> list[Review]:
    """Return the reviews that people gave: recorded ones are submitted by a program."""
    if by_people(context):
        return list(reviews)
    recorded = recorded_of(context.persona_folder, context.persona, rows)
    return [review for review in reviews if review.record not in recorded]


def measure_movements(context: RoundContext) -> dict[str, dict[str, Movement]]:
    """Return how each reviewer's votes move over a session, on the reviews pulled so far.

    Raises:
        UserError: No reviews are pulled yet.
    """
    reviewed = _pulled(context.round)
    policy = context.config.review.policy
    every = [*reviewed.reviews, *reviewed.gold_reviews]
    reviews = by_hand(context, reviewed.candidates, every)
    gold = read_gold(context.persona_folder, policy).outcomes
    return movements(reviews, votes_of(reviews), policy, gold, seed=context.config.seed)


def outlook(context: RoundContext, reviews: Sequence[Review]) -> StopAdvice | None:
    """Return whether more reviews than these would change anything; None without a budget.

    Without one reviewers meet the rows in orders of their own: no part of them stands for all.
    None also where the rows were pushed from another machine.
    """
    review = context.config.review
    if review.budget is None or not context.round.has(FILTERED):
        return None
    people = by_people(context)
    rows = review_rows(context, context.round, people=people, ordered=False).candidates
    votes = about(votes_of(reviews), rows)
    ratings = [(vote.record, vote.reviewer, vote.fidelity) for vote in votes]
    curve = planned_curve(context.round)
    return stop_advice(
        [row.id for row in random_order(rows, context.round.name)],
        by_record(votes),
        review.policy,
        alpha(ratings, "ordinal", RATINGS, seed=context.config.seed),
        needed=review.per_record,
        curve=_CURVE[curve.advice] if curve else "unknown",
    )


def adjudicate(context: RoundContext) -> Pushed | None:
    """Push what the policy can't settle to a second dataset; None where all is settled.

    Raises:
        UserError: The server does not run, or no reviews are pulled yet.
    """
    reviewed = _pulled(context.round)
    connection = ReviewServer.of(context).connect()
    return push_unsettled(
        context,
        connection,
        reviewed.candidates,
        reviewed.reviews,
        reviewed.adjudications,
        reviewed.alternatives,
    )


def measure_agreement(context: RoundContext) -> Agreement:
    """Return how far the reviewers agree, on the reviews pulled so far.

    Raises:
        UserError: No reviews are pulled yet.
    """
    return measure(context, _pulled(context.round))


def _pulled(one: RoundFolder) -> Reviewed:
    check_pushed(one)
    if not one.has(REVIEWS):
        fix = "`persona review pull` comes first, or `persona run`"
        raise UserError("no reviews are pulled yet", where=str(one.folder), fix=fix)
    return Reviewed.read(one)


def check_pushed(one: RoundFolder) -> None:
    """Raise a UserError where a round has nothing yet that could be reviewed."""
    if not one.has(FILTERED):
        stage = FILTERED.stage if one.done(IMPORTED.stage) else IMPORTED.stage
        raise not_yet("nothing is there to review yet", stage, one.folder)


@dataclass(frozen=True)
class DecisionCount:
    """How many rows of a round came to one decision for one reason."""

    decision: str
    """An outcome, or ``drop after``: by the filters that corrections go through, and with a row."""
    reason: str
    rows: int
    share: float | None
    """Of all decided rows; None for what was dropped afterwards."""
    example: str
    """Id of the first such row; empty for what was dropped afterwards."""


def count_decisions(one: RoundFolder) -> list[DecisionCount]:
    """Return the decisions of a round by their reason, the most frequent first.

    Raises:
        UserError: The round is not resolved yet.
    """
    decisions = one.read(DECISIONS)
    settled = {decision.record for decision in decisions if decision.outcome in ("drop", "queue")}
    counts = Counter((str(decision.outcome), decision.reason) for decision in decisions)
    first = {(str(own.outcome), own.reason): own.record for own in reversed(decisions)}
    # What the filters took out of the reviewers' own corrections, and pairs that fell.
    later = Counter(drop.reason for drop in one.read(RESOLVE_DROPS) if drop.record not in settled)
    counted = [
        DecisionCount(*key, rows, rows / len(decisions), first[key])
        for key, rows in counts.most_common()
    ]
    afterwards = later.most_common()
    return counted + [DecisionCount("drop after", why, rows, None, "") for why, rows in afterwards]


def migrate_review(context: RoundContext) -> tuple[Migrated, NewLogins]:
    """Copy all of the embedded server to the connected Argilla.

    Nothing is removed, and what is there already is not sent again: after an interruption the same
    call goes on.

    Returns:
        What was moved, with the passwords of new accounts; and where those are noted until the
        caller has shown them and says ``forget()``.

    Raises:
        UserError: Not connected to another Argilla, nothing to move, or the other one refuses.
    """
    home = ReviewServer.of(context).home
    link = link_of(home)
    if link is None:
        fix = "run `persona review connect URL` first"
        raise UserError("not connected to another Argilla", fix=fix)
    if not home.database.exists():
        raise UserError("the embedded server holds nothing yet", where=str(home.path))
    target = link.connection()
    was_running = status(home, embedded=True).running
    embedded = start(home, [], reuse=True, embedded=True)
    logins = NewLogins(home.path / _PENDING, link.url)
    try:
        source = Connection(embedded.url, embedded.owner_api_key)
        return migrate(source, target, logins), logins
    finally:
        if not was_running:
            stop(home)
