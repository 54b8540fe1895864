"""Submit reviews as the reviewers' own accounts: a persona's recorded ones, and lost ones.

An unattended round has no people: the review stage hands over the persona's files of reviews, and
they go through the same server and the same pull as people's would. People's own reviews that a
round holds and a server has lost are put back the same way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from curation.argilla.client import (
    Connection,
    Json,
    connected,
    dataset_name,
    existing_dataset,
    find_dataset,
    pages,
    post,
)
from curation.argilla.records import order_of, place_of
from curation.review.reliability import GOLD_FILE, Gold
from workbench.errors import UserError, UserErrors
from workbench.persona import Persona
from workbench.records import Example, Review
from workbench.store import read_models
from workbench.text import counted
from workbench.values import Frozen

if TYPE_CHECKING:
    from argilla import Argilla, Dataset

FILE = "reviews.jsonl"
CONVERSATION_REVIEWS = "conversation-reviews.jsonl"
"""The same for the lines of ``conversations.jsonl``; optional, as the conversations are."""
GOLD_REVIEWS = "gold-reviews.jsonl"
"""The same for the lines of ``gold.jsonl``; optional, as these are."""
BULK = 100
"""Responses that Argilla takes in one request."""


class RecordedReview(Frozen):
    """One line of a persona's ``reviews.jsonl`` or of a file beside it."""

    row: int = Field(ge=1)
    """1-based line of the file of rows, such as ``seeds.jsonl``, where a reader finds it."""
    record: str = Field(pattern=r"^ex-[0-9a-f]{16}$")
    """Id of the row that was reviewed: what stands on its line by now may be another one."""
    reviewer: str = Field(min_length=1)
    fidelity: int = Field(ge=1, le=5)
    problems: tuple[str, ...] = ()
    corrected: str = ""
    note: str = ""

    def values(self) -> dict[str, dict[str, Any]]:
        """Return the answers as Argilla takes them; it refuses empty ones, so they are left out."""
        return _values(self.model_dump(mode="json", exclude={"row", "record", "reviewer"}))


def _values(answers: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    return {name: {"value": value} for name, value in answers.items() if value}


@dataclass(frozen=True)
class Submitted:
    """What became of the recorded reviews."""

    new: int
    already: int
    """Reviews that were submitted before and were left as they are."""
    left_out: int
    """Reviews of rows that are not there, such as those dropped before the push."""


def read_recorded(path: Path, problems: Mapping[str, str]) -> list[RecordedReview]:
    """Return the lines of a file of recorded reviews.

    Raises:
        UserErrors: Every line that is none, or that names a problem which is not in ``problems``.
    """
    reviews: list[RecordedReview] = []
    mistakes: list[UserError] = []
    for number, review in read_models(path, RecordedReview, mistakes):
        if unknown := sorted(set(review.problems) - set(problems)):
            mistakes.append(
                UserError(
                    f"problems: unknown {', '.join(unknown)}",
                    where=f"{path}:{number}",
                    fix=f"one of {', '.join(problems)}",
                )
            )
        reviews.append(review)
    if mistakes:
        raise UserErrors(mistakes)
    return reviews


def gold_with_reviews(persona_folder: Path, persona: Persona, gold: Gold, reviews: int) -> Gold:
    """Return the gold rows that have at least ``reviews`` recorded reviews.

    The others would wait for ever in a round that nobody reviews by hand.
    """
    path = persona_folder / GOLD_REVIEWS
    if not path.exists():
        return Gold()
    counts = Counter(review.record for review in read_recorded(path, persona.problems))
    rows = tuple(example for example in gold.examples if counts[example.id] >= reviews)
    return Gold(rows, {example.id: gold.outcomes[example.id] for example in rows})


def recorded_of(
    persona_folder: Path, persona: Persona, examples: Sequence[Example]
) -> dict[str, list[RecordedReview]]:
    """Return example's id → the recorded reviews of it; an example without any is not in it.

    A review is of the row whose id it names, and of the same row with personal data masked. Those
    of ``gold-reviews.jsonl`` are of gold rows alone.
    """
    own = {
        **_by_record(persona_folder / FILE, persona),
        **_by_record(persona_folder / CONVERSATION_REVIEWS, persona),
    }
    gold = _by_record(persona_folder / GOLD_REVIEWS, persona)
    by_example: dict[str, list[RecordedReview]] = {}
    for example in examples:
        reviews = gold if example.source.startswith(f"{GOLD_FILE}:") else own
        # A filter's masked row has its origin alone as parent; what was made of a row has more.
        origin = example.parents[0] if len(example.parents) == 1 else ""
        if named := reviews.get(example.id) or reviews.get(origin):
            by_example[example.id] = list(named.values())
    return by_example


def _by_record(path: Path, persona: Persona) -> dict[str, dict[str, RecordedReview]]:
    """Return record → reviewer → review; of two that a reviewer gave the first."""
    reviews: dict[str, dict[str, RecordedReview]] = defaultdict(dict)
    for review in read_recorded(path, persona.problems) if path.exists() else ():
        reviews[review.record].setdefault(review.reviewer, review)
    return reviews


def submit_recorded(
    persona_folder: Path,
    persona: Persona,
    round_name: str,
    examples: Sequence[Example],
    logins: Mapping[str, Connection],
) -> Submitted:
    """Submit the recorded reviews through Argilla's API, each by its own reviewer.

    Args:
        persona_folder: Holds ``reviews.jsonl``.
        persona: Its problems are those that a review may name.
        round_name: Such as ``round-001``, already pushed.
        examples: The rows that were pushed.
        logins: Reviewer → connection with that reviewer's own key.

    Raises:
        UserError: A broken file, a reviewer without a login, or Argilla refuses.
    """
    known = recorded_of(persona_folder, persona, examples)
    recorded = read_recorded(persona_folder / FILE, persona.problems)
    here = {review for reviews in known.values() for review in reviews}
    names = sorted({one.reviewer for one in (*recorded, *here)})
    if unknown := [name for name in names if name not in logins]:
        raise UserError(
            f"no account for the reviewer {', '.join(unknown)}",
            where=str(persona_folder / FILE),
            fix=f"there are {', '.join(sorted(logins))}; name the reviewers in review.reviewers",
        )
    work: dict[str, list[Json]] = {name: [] for name in names}
    for record, reviews in known.items():
        for review in reviews:
            item = {"record_id": record, "status": "submitted", "values": review.values()}
            work[review.reviewer].append(item)
    total = sum(map(len, work.values()))
    new = sum(_submit_all(logins, dataset_name(persona.id, round_name), work).values())
    return Submitted(new, total - new, sum(review not in here for review in recorded))


def submit_lost(
    connection: Connection,
    persona: Persona,
    round_name: str,
    reviews: Sequence[Review],
    examples: Sequence[Example],
    logins: Mapping[str, Connection],
    *,
    queue: bool = False,
) -> dict[str, int]:
    """Submit reviews that a server has lost; return how many of each reviewer were put back.

    Args:
        connection: With the owner's key.
        persona: The persona of the round.
        round_name: Such as ``round-001``, already pushed.
        reviews: What was pulled before and is not there now.
        examples: The rows that were pushed; reviews of others are left out.
        logins: Reviewer → connection with that reviewer's own key; reviews of those without one,
            or outside of the workspace, are left out.
        queue: To the disagreement queue.

    Raises:
        UserError: Argilla refuses or does not answer.
    """
    name = dataset_name(persona.id, round_name, queue=queue)
    with connected(connection) as client:
        dataset = find_dataset(client, name)
        members = {user.username for user in dataset.workspace.users} if dataset else set()
        members.add(client.me.username)  # an owner needs no workspace
    rows = {row.id: row for row in examples}
    work: dict[str, list[Json]] = defaultdict(list)
    for one in reviews:
        if one.record in rows and one.reviewer in members and one.reviewer in logins:
            answers = dict(one.answers)
            if better := answers.get("better"):
                answers["better"] = place_of(better, order_of(rows[one.record], round_name))
            item = {"record_id": one.record, "status": one.status, "values": _values(answers)}
            work[one.reviewer].append(item)
    return _submit_all(logins, name, work)


def _submit_all(
    logins: Mapping[str, Connection], name: str, work: Mapping[str, Sequence[Json]]
) -> dict[str, int]:
    """Submit every reviewer's items to a dataset; return how many of each were new."""
    with ThreadPoolExecutor(max_workers=len(work) or 1) as pool:
        done = pool.map(lambda who: _submit(logins[who], name, work[who]), work)
        return dict(zip(work, done, strict=True))


def _submit(connection: Connection, name: str, reviews: Sequence[Json]) -> int:
    """Submit one reviewer's reviews that are not there yet; return their number."""
    with connected(connection) as client:
        dataset = existing_dataset(client, connection, name)
        seen = _own_records(client, dataset)
        if missing := [one["record_id"] for one in reviews if one["record_id"] not in seen]:
            raise UserError(
                f"{len(missing)} reviewed rows are not in '{name}', such as {missing[0]}",
                where=connection.url,
                fix="push the round first (`persona review push`)",
            )
        items = [
            {**one, "record_id": seen[one["record_id"]][0]}
            for one in reviews
            if not seen[one["record_id"]][1]
        ]
        for start in range(0, len(items), BULK):
            batch = {"items": items[start : start + BULK]}
            results = post(client, "me/responses/bulk", batch)["items"]
            if refused := [one["error"]["detail"] for one in results if one["error"]]:
                raise UserError(
                    f"Argilla refused {counted(len(refused), 'review')}, the first: {refused[0]}",
                    where=connection.url,
                    fix="mend the reviews and run the same command again",
                )
    return len(items)


def _own_records(client: Argilla, dataset: Dataset) -> dict[str, tuple[str, bool]]:
    """Return record → the server's id, and whether this reviewer submitted or discarded it."""
    records: dict[str, tuple[str, bool]] = {}
    path = f"me/datasets/{dataset.id}/records/search"
    for page in pages(partial(post, client, path, {}, include="responses")):
        for item in page["items"]:
            record = item["record"]
            done = any(one["status"] != "draft" for one in record.get("responses") or ())
            records[record["external_id"]] = (record["id"], done)
    return records
