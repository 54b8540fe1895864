"""How far the review of a round is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from curation.argilla.connection import Connection, connected
from curation.argilla.remote import dataset_name, existing_dataset, find_dataset
from workbench.persona import Persona


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

    def enough(self, share: float = 1.0) -> bool:
        """Return whether ``share`` of the records is reviewed, or no reviewer has any left."""
        if self.completed >= share * self.total:
            return True
        return bool(self.reviewers) and not any(one.left for one in self.reviewers.values())


def status(
    connection: Connection, persona: Persona, round_name: str, *, queue: bool = False
) -> Progress:
    """Return how far the review of a round is, in all and per reviewer.

    Raises:
        UserError: The round was not pushed, or Argilla refuses or does not answer.
    """
    name = dataset_name(persona.id, round_name, queue=queue)
    with connected(connection) as client:
        dataset = existing_dataset(client, connection, name)
        found = dataset.progress(with_users_distribution=True)
        space = dataset.workspace
        members = [user.username for user in space.users if user.role.value == "annotator"]
        url = f"{connection.url.rstrip('/')}/dataset/{dataset.id}/annotation-mode"
    given = found["users"]
    reviewers = {
        name: _reviewer(given.get(name), found["pending"]) for name in sorted({*members, *given})
    }
    return Progress(name, url, found["total"], found["completed"], reviewers)


def queue_status(connection: Connection, persona: Persona, round_name: str) -> Progress | None:
    """Return how far the disagreement queue of a round is; None where none was pushed.

    Raises:
        UserError: As :func:`status` does.
    """
    name = dataset_name(persona.id, round_name, queue=True)
    with connected(connection) as client:
        if find_dataset(client, name) is None:
            return None
    return status(connection, persona, round_name, queue=True)


def complete(connection: Connection, persona: Persona, round_name: str) -> bool:
    """Return whether nobody is waited for any more: neither a reviewer nor an adjudicator."""
    queue = queue_status(connection, persona, round_name)
    return status(connection, persona, round_name).enough() and (not queue or queue.enough())


def _reviewer(given: Mapping[str, Mapping[str, int]] | None, pending: int) -> ReviewerProgress:
    if given is None:
        return ReviewerProgress(left=pending)
    count = {
        kind: given["completed"][kind] + given["pending"][kind]
        for kind in ("submitted", "discarded", "draft")
    }
    decided = given["pending"]["submitted"] + given["pending"]["discarded"]
    return ReviewerProgress(
        count["submitted"], count["discarded"], count["draft"], max(0, pending - decided)
    )
