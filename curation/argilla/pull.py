"""Pull what reviewers submitted or discarded, the same way every time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from curation.argilla.connection import Connection, connected
from curation.argilla.record_fields import CANDIDATE_FIRST
from curation.argilla.remote import dataset_name, existing_dataset, records_of
from workbench.persona import Persona
from workbench.records import Review

_SIDES = {"a": 0, "b": 1}


def pull(
    connection: Connection, persona: Persona, round_name: str, *, queue: bool = False
) -> list[Review]:
    """Return every submitted or discarded response as a review, by record and reviewer.

    Drafts are left out: their reviewers have not decided. Which answer of a pair is better comes
    back as ``candidate`` or ``alternative``, whichever place they had on the screen.

    Args:
        connection: With an owner's or admin's key.
        persona: The persona of the round.
        round_name: Such as ``round-001``.
        queue: Pull the adjudicator's word from the disagreement queue instead.

    Raises:
        UserError: The round was not pushed, or Argilla refuses or goes away; nothing is kept of
            a pull that broke off.
    """
    name = dataset_name(persona.id, round_name, queue=queue)
    with connected(connection) as client:
        dataset = existing_dataset(client, connection, name)
        found = records_of(client, dataset, "responses")
        names = {str(user.id): user.username for user in client.api.users.list()}
    reviews = [
        _review(record, response, names)
        for record in found
        for response in record.get("responses") or ()
        if response["status"] in ("submitted", "discarded")
    ]
    return sorted(reviews, key=lambda review: (review.record, review.reviewer))


def _review(record: dict[str, Any], response: dict[str, Any], names: dict[str, str]) -> Review:
    values = {key: part["value"] for key, part in (response["values"] or {}).items()}
    answers: dict[str, Any] = {
        "fidelity": values.get("fidelity"),
        "problems": sorted(values.get("problems") or ()),
        "corrected": values.get("corrected") or "",
        "note": values.get("note") or "",
    }
    order = (record.get("metadata") or {}).get("order")
    if order:
        answers["better"] = _better(values.get("better") or "", order)
    return Review(
        reviewer=names.get(response["user_id"], response["user_id"]),
        record=record["external_id"],
        status=response["status"],
        answers=answers,
        at=_utc(response["updated_at"]),
    )


def _better(value: str, order: str) -> str:
    """Return what was meant by the place on the screen."""
    if value not in _SIDES:
        return value
    sides = (
        ("candidate", "alternative") if order == CANDIDATE_FIRST else ("alternative", "candidate")
    )
    return sides[_SIDES[value]]


def _utc(time: str) -> str:
    """Return Argilla's time, which is in UTC without saying so, as ISO 8601 with its zone."""
    found = datetime.fromisoformat(time)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
