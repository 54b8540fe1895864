"""Pull what reviewers submitted or discarded, the same way every time, and ask how far they are.

The review stage keeps the reviews; the commands that show or wait for progress ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from curation.argilla.client import (
    Connection,
    Json,
    connected,
    dataset_name,
    existing_dataset,
    find_dataset,
    records_of,
)
from curation.argilla.records import CANDIDATE_FIRST
from curation.review.merging import ServerReviews
from workbench.persona import Persona
from workbench.records import Review
from workbench.text import normalize_all

_PLACES = {"a": 0, "b": 1}


def server_reviews(
    connection: Connection, persona: Persona, round_name: str, *, queue: bool = False
) -> ServerReviews:
    """Return what a server holds of a round, every submitted or discarded response as a review.

    Of drafts only their places are told: their reviewers have not decided. Which answer of a pair
    is better comes back as ``candidate`` or ``alternative``, whichever place they had on the
    screen.

    Args:
        connection: With an owner's or admin's key.
        persona: The persona of the round.
        round_name: Such as ``round-001``.
        queue: Pull the adjudicator's word from the disagreement queue instead; nothing where no
            queue was pushed.

    Raises:
        UserError: The round was not pushed, or Argilla refuses or goes away; nothing is kept of
            a pull that broke off.
    """
    name = dataset_name(persona.id, round_name, queue=queue)
    with connected(connection) as client:
        names = {str(user.id): user.username for user in client.api.users.list()}
        accounts = frozenset(names.values())
        if queue and find_dataset(client, name) is None:
            return ServerReviews([], accounts=accounts)
        dataset = existing_dataset(client, connection, name)
        records = records_of(client, dataset, "responses")
    responses = [
        (record, response) for record in records for response in record.get("responses") or ()
    ]
    reviews = [
        _review(record, response, names)
        for record, response in responses
        if response["status"] in ("submitted", "discarded")
    ]
    drafts = (
        (record["external_id"], _reviewer_name(response, names))
        for record, response in responses
        if response["status"] == "draft"
    )
    by_place = sorted(reviews, key=lambda review: (review.record, review.reviewer))
    return ServerReviews(by_place, frozenset(drafts), accounts)


def pull(
    connection: Connection, persona: Persona, round_name: str, *, queue: bool = False
) -> list[Review]:
    """Return the reviews of :func:`server_reviews`, by record and reviewer."""
    return server_reviews(connection, persona, round_name, queue=queue).reviews


def _reviewer_name(response: Json, names: Mapping[str, str]) -> str:
    return names.get(response["user_id"], response["user_id"])


def _review(record: Json, response: Json, names: Mapping[str, str]) -> Review:
    values = normalize_all({key: part["value"] for key, part in (response["values"] or {}).items()})
    better = values.pop("better", "")
    answers: Json = {
        **values,
        "fidelity": values.get("fidelity"),
        "problems": sorted(values.get("problems") or ()),
        "corrected": values.get("corrected") or "",
        "note": values.get("note") or "",
    }
    order = (record.get("metadata") or {}).get("order")
    if order:
        answers["better"] = _better(better or "", order)
    return Review(
        reviewer=_reviewer_name(response, names),
        record=record["external_id"],
        status=response["status"],
        answers=answers,
        at=_utc(response["updated_at"]),
    )


def _better(value: str, order: str) -> str:
    """Return what was meant by the place on the screen."""
    if value not in _PLACES:
        return value
    answers = ("candidate", "alternative")
    return (answers if order == CANDIDATE_FIRST else answers[::-1])[_PLACES[value]]


def _utc(time: str) -> str:
    """Return Argilla's time, which is in UTC without saying so, as ISO 8601 with its zone."""
    at = datetime.fromisoformat(time)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


@dataclass(frozen=True)
class ReviewerProgress:
    """How far one reviewer is, in records."""

    submitted: int = 0
    discarded: int = 0
    drafts: int = 0
    left: int = 0
    """Records that still need reviews and that this reviewer has not decided on."""

    @property
    def done(self) -> int:
        """Records that this reviewer has decided on."""
        return self.submitted + self.discarded


@dataclass(frozen=True)
class Progress:
    """How far a round's review is, in records."""

    dataset: str
    url: str
    """Address at which a reviewer opens the dataset."""
    total: int
    completed: int
    """Records with all the reviews that they need."""
    reviewers: Mapping[str, ReviewerProgress]
    needed: int = 0
    """Reviews that are still to be submitted, in all, until every record is complete."""

    def enough(self) -> bool:
        """Return whether every record is reviewed, or no reviewer has any left."""
        waits = not self.reviewers or any(one.left for one in self.reviewers.values())
        return self.completed >= self.total or not waits


def review_progress(
    connection: Connection, persona: Persona, round_name: str, *, queue: bool = False
) -> Progress:
    """Return how far the review of a round is, in all and per reviewer.

    Raises:
        UserError: The round was not pushed, or Argilla refuses or does not answer.
    """
    name = dataset_name(persona.id, round_name, queue=queue)
    with connected(connection) as client:
        dataset = existing_dataset(client, connection, name)
        progress = dataset.progress(with_users_distribution=True)
        space = dataset.workspace
        members = [user.username for user in space.users if user.role.value == "annotator"]
        url = f"{connection.url.rstrip('/')}/dataset/{dataset.id}/annotation-mode"
    users = progress["users"]
    reviewers = {
        # Who was taken out of the workspace is waited for no more.
        name: _reviewer(users.get(name), progress["pending"] if name in members else 0)
        for name in sorted({*members, *users})
    }
    each = dataset.settings.distribution.min_submitted
    partly = sum(user["pending"]["submitted"] for user in users.values())
    needed = progress["pending"] * each - partly
    return Progress(name, url, progress["total"], progress["completed"], reviewers, needed)


def progress_if_pushed(
    connection: Connection, persona: Persona, round_name: str, *, queue: bool = False
) -> Progress | None:
    """Return how far a round's review is, or its disagreement queue; None where none was pushed.

    Raises:
        UserError: As :func:`review_progress` does.
    """
    name = dataset_name(persona.id, round_name, queue=queue)
    with connected(connection) as client:
        if find_dataset(client, name) is None:
            return None
    return review_progress(connection, persona, round_name, queue=queue)


def _reviewer(user: Mapping[str, Mapping[str, int]] | None, pending: int) -> ReviewerProgress:
    if user is None:
        return ReviewerProgress(left=pending)
    count = {
        kind: user["completed"][kind] + user["pending"][kind]
        for kind in ("submitted", "discarded", "draft")
    }
    decided = user["pending"]["submitted"] + user["pending"]["discarded"]
    return ReviewerProgress(
        count["submitted"], count["discarded"], count["draft"], max(0, pending - decided)
    )
