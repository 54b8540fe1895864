"""Waiting for people: for the round's reviewers, then for an adjudicator of what they differ on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rounds.context import RoundContext
from rounds.stages import resolve as stage_resolve
from rounds.stages import review as stage_review
from workbench.console import console, track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from curation.argilla.client import Connection
    from curation.argilla.push import Pushed

POLL_SECONDS = 10.0
"""Seconds between two looks at how far people are."""


def wait_for_reviewers(context: RoundContext, connection: Connection) -> None:
    """Print address and logins, and return when the round is reviewed as far as it will be."""
    _wait(context, connection, "waiting for reviews", queue=False)


def wait_for_adjudicator(
    context: RoundContext,
    connection: Connection,
    given: stage_resolve.Given,
    alternatives: Mapping[str, str],
) -> None:
    """Put what reviewers left unsettled before an adjudicator, and wait for a word on each row.

    Nothing is put or waited for where the configuration says ``unsettled: drop``.

    Args:
        context: The round.
        connection: With the owner's key.
        given: The reviewed rows, and all that was said of them so far.
        alternatives: Example id → the other answer of a pair.
    """
    if context.config.review.policy.unsettled == "drop":
        return
    pushed = push_unsettled(context, connection, given, alternatives)
    if pushed is not None:
        console.print(f"  {pushed.dataset}: {pushed.new} rows pushed, {pushed.already} were there")
        _wait(context, connection, "waiting for an adjudicator", queue=True)


def push_unsettled(
    context: RoundContext,
    connection: Connection,
    given: stage_resolve.Given,
    alternatives: Mapping[str, str],
) -> Pushed | None:
    """Put what the policy can't settle into the disagreement queue; None where nothing is left."""
    from curation.argilla.push import push_queue

    return push_queue(
        connection,
        context.persona,
        context.round.name,
        given.rows,
        given.reviews,
        stage_resolve.decide(context, given, queue=True).queue,
        exemplars=stage_review.exemplars(context, given.rows),
        alternatives=alternatives,
    )


def _wait(context: RoundContext, connection: Connection, title: str, *, queue: bool) -> None:
    from curation.argilla.pull import review_progress

    progress = review_progress(connection, context.persona, context.round.name, queue=queue)
    if progress.enough():
        return
    stage_review.tell_logins(context, progress)
    with track(title, progress.total) as advance:
        done = 0
        while True:
            advance(progress.completed - done)
            done = progress.completed
            if progress.enough():
                return
            time.sleep(POLL_SECONDS)
            progress = review_progress(connection, context.persona, context.round.name, queue=queue)
