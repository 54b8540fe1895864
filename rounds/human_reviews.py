"""What people said of a round: pulled, merged with what the round holds, put back where lost.

In: a pushed dataset and the reviews that were pulled before. Out: both merged, and a printed line
for whatever differs. The stage ``review`` and the blind round pull through here, so that no pull
can lose a review.
"""

from __future__ import annotations

from collections.abc import Sequence

from curation.argilla.client import Connection
from curation.argilla.pull import server_reviews
from curation.argilla.recorded import submit_lost
from curation.review.merging import Merged, merge
from rounds.context import RoundContext
from rounds.layout import ADJUDICATIONS, GOLD_REVIEWS, REVIEWS
from rounds.review_server import ReviewServer
from workbench.console import console
from workbench.records import Example, Review
from workbench.text import counted


def held_reviews(context: RoundContext, people: bool) -> tuple[list[Review], list[Review]]:
    """Return the reviews and adjudications of people that the round holds.

    None where nobody but the persona's files has reviewed it: recorded reviews follow their files.
    """
    manifest = context.round.manifest(REVIEWS.stage)
    asked = manifest and (manifest.settings.get("people") or manifest.counts.get("unrecorded"))
    if manifest is None or not (people or asked):
        return [], []
    reviews = [*context.round.read_if_there(REVIEWS), *context.round.read_if_there(GOLD_REVIEWS)]
    return reviews, context.round.read_if_there(ADJUDICATIONS)


def pull_merged(
    context: RoundContext,
    connection: Connection,
    name: str,
    before: Sequence[Review],
    *,
    queue: bool = False,
) -> Merged:
    """Return the reviews of a dataset, merged with those pulled ``before``; tell what differs.

    ``name`` is the round's, as it was pushed; ``queue`` means its disagreement queue.

    Raises:
        UserError: The round was not pushed, or Argilla refuses or goes away.
    """
    server = server_reviews(connection, context.persona, name, queue=queue)
    merged = merge(before, server)
    for line in merged.lines:
        console.print(f"  {line}", markup=False)
    return merged


def put_back(
    context: RoundContext,
    connection: Connection,
    lost: Sequence[Review],
    rows: Sequence[Example],
    *,
    queue: bool = False,
) -> None:
    """Submit anew what the server has lost, each review by its reviewer's own account.

    After a dataset was made anew, or on another server, nobody is then asked twice.

    Reviews of rows that are not pushed are left out; ``queue`` means the disagreement queue.

    Raises:
        UserError: Argilla refuses or goes away.
    """
    if not lost:
        return
    logins = ReviewServer.of(context).logins()
    counts = submit_lost(
        connection, context.persona, context.round.name, lost, rows, logins, queue=queue
    )
    if total := sum(counts.values()):
        whose = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        console.print(f"  {counted(total, 'review')} put back on the server: {whose}", markup=False)
