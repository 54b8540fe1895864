"""The stage ``review``: rows go to Argilla, reviews come back.

In: the filtered rows, the imported pairs and the persona's gold rows. Out: reviews, adjudications,
and what reviewers saw. ``persona review`` does the same a step at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from curation.argilla.client import Connection
from curation.argilla.pull import progress_if_pushed, review_progress
from curation.argilla.push import Pushed, push, push_queue
from curation.argilla.recorded import (
    CONVERSATION_REVIEWS,
    FILE,
    GOLD_REVIEWS,
    recorded_of,
    submit_recorded,
)
from curation.review.merging import Merged
from curation.review.resolve import resolve
from rounds import layout
from rounds.context import RoundContext
from rounds.human_reviews import held_reviews, pull_merged, put_back
from rounds.notes import contest_notes
from rounds.review_rows import ReviewRows, check_splittable, opinions_on, review_rows
from rounds.review_server import ReviewServer
from rounds.runner import StageSpec, Work
from workbench.console import console, track
from workbench.errors import UserError
from workbench.records import Example, Review
from workbench.text import counted, some_of

STAGE = "review"
POLL_SECONDS = 10.0
"""Seconds between two looks at how far people are."""


def review_stage(context: RoundContext, *, wait: bool = True) -> StageSpec:
    """Reviews of the filtered rows, pulled from Argilla.

    People's where the round waits for them or none are recorded; else the persona's recorded ones,
    submitted by the reviewers' own accounts, and people's of rows that these do not know. Without
    ``wait`` people's are pulled as they are.
    """
    people = by_people(context)
    recorded = (FILE, CONVERSATION_REVIEWS, GOLD_REVIEWS)
    names = ("gold.jsonl",) if people else ("gold.jsonl", *recorded)
    return StageSpec(
        STAGE,
        partial(_review, context, people, wait),
        inputs=(layout.FILTERED, layout.FILTERED_PREFERENCES),
        optional=(layout.CARRY_OVER_EXAMPLES,),
        files=context.persona_files(*names),
        settings={
            "reviewers": list(context.config.review.reviewers),
            "per_record": context.config.review.per_record,
            "people": people,
            **_own_settings(context),
        },
        packages=("argilla",),
    )


def by_people(context: RoundContext) -> bool:
    """Return whether people review: asked for, or no reviews are recorded."""
    return context.config.review.people or not (context.persona_folder / "reviews.jsonl").exists()


def _own_settings(context: RoundContext) -> dict[str, str | int]:
    """Return the settings that a round has only where they are not as by default."""
    review = context.config.review
    unreviewed = {} if review.unreviewed == "wait" else {"unreviewed": review.unreviewed}
    return {**unreviewed, **({"budget": review.budget} if review.budget else {})}


def with_overlap(context: RoundContext, per_record: int | None) -> RoundContext:
    """Return the same context with so many reviewers for each record; None changes nothing.

    Raises:
        UserError: There are fewer reviewers than that.
    """
    review = context.config.review
    wanted = per_record or review.per_record
    if wanted > len(review.reviewers):
        raise UserError(
            f"{wanted} reviewers for each record, but there are only {len(review.reviewers)}",
            where="--reviewers-per-record" if per_record else "review.per_record",
            fix="name more of them in review.reviewers of the configuration",
        )
    return context.with_settings("review", per_record=wanted)


def _review(context: RoundContext, people: bool, wait: bool, work: Work) -> None:
    rows = review_rows(context, work, people=people)
    collected = CollectedReviews([], [], True)
    check_splittable(context, rows)
    if rows.candidates:  # a round that only takes rows over needs no server
        collected = _collect(context, rows, people, wait, work)
    # Reviews of gold rows say how reliable a reviewer is; nothing is decided by them.
    known = rows.gold.outcomes
    reviews = [review for review in collected.reviews if review.record not in known]
    gold_reviews = [review for review in collected.reviews if review.record in known]
    work.counts.update(
        reviews=len(reviews),
        reviewers=len({review.reviewer for review in reviews}),
        gold_reviews=len(gold_reviews),
        adjudications=len(collected.adjudications),
        complete=collected.complete,
        **({"carry_over": len(rows.decided)} if rows.decided else {}),
    )
    work.write(layout.REVIEWS, reviews)
    work.write(layout.GOLD_REVIEWS, gold_reviews)
    work.write(layout.ADJUDICATIONS, collected.adjudications)
    work.write(layout.REVIEWED_PAIRS, rows.pairs)
    # As rows of the round they name the persona, so that their chain back is whole.
    parents = (context.persona.record_id,)
    work.write(layout.GOLD, [row.evolve(parents=parents) for row in rows.gold.examples])


@dataclass(frozen=True)
class CollectedReviews:
    """The reviews and adjudications so far, and whether more are to come."""

    reviews: list[Review]
    adjudications: list[Review]
    complete: bool


def _collect(
    context: RoundContext, rows: ReviewRows, people: bool, wait: bool, work: Work
) -> CollectedReviews:
    """Put rows on the server and return their reviews, merged with those that the round holds."""
    server = ReviewServer.of(context)
    connection = server.connect(start=True)
    before, words = held_reviews(context, people)
    pull = partial(pull_merged, context, connection, context.round.name)
    unrecorded = [] if people else _unrecorded(context, rows)
    if unrecorded:
        work.counts["unrecorded"] = len(unrecorded)
    asks = people or (bool(unrecorded) and context.config.review.unreviewed == "wait")
    try:
        push_rows(context, connection, rows)
        if not people:
            _submit(context, server, rows, work)
        reviews = pull(before)
        put_back(context, connection, reviews.lost, rows.pushed(context.round.name))
        _tell_unrecorded(unrecorded, reviews.reviews, waits=asks)
        if asks and wait and _wait(context, connection, "waiting for reviews", queue=False):
            reviews = pull(before)
        adjudications = pull(words, queue=True)
        put_back(context, connection, adjudications.lost, rows.candidates, queue=True)
        if people and wait:
            _wait_for_adjudicator(context, connection, rows, reviews.reviews, adjudications.reviews)
            adjudications = pull(words, queue=True)
        # Where nobody is asked, what has no recorded review gets none.
        complete = not asks or _complete(context, connection, rows, reviews)
        return CollectedReviews(reviews.reviews, adjudications.reviews, complete)
    finally:
        # An unattended run leaves nothing behind, also when it goes on after a kill.
        if not asks and not server.stays:
            server.stop()


def _unrecorded(context: RoundContext, rows: ReviewRows) -> list[Example]:
    """Return the rows that no recorded review knows: added ones, a teacher's, changed ones."""
    known = recorded_of(context.persona_folder, context.persona, rows.asked)
    return [row for row in rows.asked if row.id not in known]


def _tell_unrecorded(rows: Sequence[Example], reviews: Sequence[Review], *, waits: bool) -> None:
    """Say which rows nobody has reviewed yet, and what becomes of them."""
    reviewed = {review.record for review in reviews}
    if still := [row for row in rows if row.id not in reviewed]:
        what = "wait for people" if waits else "are left out (review.unreviewed: leave_out)"
        names = some_of([row.source or row.id for row in still])
        console.print(
            f"  {len(still)} rows that no recorded review knows {what}: {names}", markup=False
        )


def _complete(
    context: RoundContext, connection: Connection, rows: ReviewRows, reviews: Merged
) -> bool:
    """Return whether nobody is waited for any more, neither a reviewer nor an adjudicator.

    Reviews that the server lost count. What an account that is gone had still to review is open.
    """
    at = connection, context.persona, context.round.name
    records = [row.id for row in rows.pushed(context.round.name)]
    enough = reviews.cover(records, context.config.review.per_record)
    if not enough and reviews.gone:
        return False
    queue = progress_if_pushed(*at, queue=True)
    return (enough or review_progress(*at).enough()) and (not queue or queue.enough())


def push_rows(context: RoundContext, connection: Connection, rows: ReviewRows) -> None:
    """Put the rows into the round's dataset; those already there stay as they are."""
    pushed = push(
        connection,
        context.persona,
        context.round.name,
        rows.pushed(context.round.name),
        reviewers_per_record=context.config.review.per_record,
        few_shot=context.few_shot_examples([*rows.decided, *rows.rows]),
        alternatives=rows.alternatives,
        folder=context.round.path(layout.FILTERED).parent,
        reviewers=ReviewServer.of(context).admitted,
        embedder=context.config.embedder,
        judge_opinions=opinions_on(context, rows),
        in_order=rows.queue is not None,
    )
    console.print(f"  {pushed.line()}")
    if beyond := len(rows.candidates) - len(rows.asked):
        console.print(
            f"  {counted(beyond, 'row')} beyond the budget of {context.config.review.budget}"
            " reviews: not pushed, and left out unless it is raised"
        )


def _submit(context: RoundContext, server: ReviewServer, rows: ReviewRows, work: Work) -> None:
    """Submit the persona's recorded reviews, each by its reviewer's own account."""
    submitted = submit_recorded(
        context.persona_folder,
        context.persona,
        context.round.name,
        rows.pushed(context.round.name),
        server.reviewer_connections(),
    )
    # What was submitted before a kill counts too, so that the manifest does not depend on kills.
    work.counts.update(submitted=submitted.new + submitted.already, left_out=submitted.left_out)


def _wait_for_adjudicator(
    context: RoundContext,
    connection: Connection,
    rows: ReviewRows,
    reviews: list[Review],
    adjudications: list[Review],
) -> None:
    """Put what reviewers left unsettled before an adjudicator, and wait for a word on each row.

    Nothing is put or waited for where the configuration says ``unsettled: drop``.
    """
    if context.config.review.policy.unsettled == "drop":
        return
    pushed = push_unsettled(
        context, connection, rows.candidates, reviews, adjudications, rows.alternatives
    )
    if pushed is not None:
        console.print(f"  {pushed.line()}")
        _wait(context, connection, "waiting for an adjudicator", queue=True)


def push_unsettled(
    context: RoundContext,
    connection: Connection,
    rows: list[Example],
    reviews: list[Review],
    adjudications: list[Review],
    alternatives: Mapping[str, str],
) -> Pushed | None:
    """Put what the policy can't settle into the disagreement queue; None where nothing is left.

    Rows whose drop somebody contested go there too, with the note, unless an adjudicator has seen
    them. An adjudicator's word is final. ``alternatives`` is example id → the other answer of a
    pair.
    """
    policy = context.config.review.policy.model_copy(update={"unsettled": "queue"})
    resolved = resolve(
        context.persona,
        rows,
        reviews,
        policy,
        {},
        alternatives=alternatives,
        adjudications=adjudications,
    )
    notes, settled = contest_notes(context.round), {own.record for own in adjudications}
    unsettled = {decision.record for decision in resolved.queue}
    return push_queue(
        connection,
        context.persona,
        context.round.name,
        rows,
        reviews,
        unsettled | (notes.keys() - settled),
        notes=notes,
        few_shot=context.few_shot_examples(rows),
        alternatives=alternatives,
        folder=context.round.path(layout.FILTERED).parent,
        reviewers=ReviewServer.of(context).admitted,
        embedder=context.config.embedder,
    )


def _wait(context: RoundContext, connection: Connection, title: str, *, queue: bool) -> bool:
    """Print address and logins until all is reviewed that will be; return whether it had to."""
    at = connection, context.persona, context.round.name
    progress = review_progress(*at, queue=queue)
    if progress.enough():
        return False
    ReviewServer.of(context).print_logins(progress.url)
    with track(title, progress.total) as advance:
        done = 0
        while True:
            advance(progress.completed - done)
            done = progress.completed
            if progress.enough():
                return True
            time.sleep(POLL_SECONDS)
            progress = review_progress(*at, queue=queue)
