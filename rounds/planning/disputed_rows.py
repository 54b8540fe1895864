"""Rows that the next round's people look at first: those that this round's reviewers split over."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from rounds.context import RoundContext
from rounds.stages.resolve import Reviewed
from workbench.records import Decision, Example
from workbench.store import read_records


class Disputed(BaseModel):
    """A row whose reviewers voted for different outcomes, or rated it far apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    topic: str
    question: str
    outcome: str
    """What became of it: keep, edit, alternative, drop or queue."""
    votes: tuple[str, ...]
    """What each reviewer said."""
    apart: int
    """Highest rating less the lowest, 0 to 4."""


def disputed(context: RoundContext) -> list[Disputed]:
    """Return the rows of the training and validation sides, and of none, that reviewers split over.

    Those that wait for an adjudicator come first, then by how far ratings are apart. Held-out rows
    are left out: what becomes of them must not follow from how a model did.
    """
    from curation.review.votes import ballots, by_record

    reviewed, policy = Reviewed.read(context.round), context.config.review.policy
    hidden = held_out(context)
    rows = {row.id: row for row in reviewed.candidates if row.id not in hidden}
    decided = {
        decision.record: decision.outcome
        for decision in read_records(context.round.stage("resolve") / "decisions.jsonl", Decision)
    }
    settled = {review.record for review in reviewed.adjudications}
    found = []
    for record, votes in by_record(ballots(reviewed.reviews)).items():
        if record not in rows or record in settled:
            continue
        ratings = [ballot.fidelity for ballot in votes]
        apart = max(ratings) - min(ratings)
        outcomes = {ballot.vote(policy.blocking, policy.keep_fidelity) for ballot in votes}
        if len(outcomes) > 1 or apart >= policy.apart:
            found.append(
                Disputed(
                    id=record,
                    topic=rows[record].topic,
                    question=rows[record].question,
                    outcome=decided.get(record, "queue"),
                    votes=tuple(ballot.said() for ballot in votes),
                    apart=apart,
                )
            )
    return sorted(found, key=lambda one: (one.outcome != "queue", -one.apart, one.id))


def held_out(context: RoundContext) -> set[str]:
    """Return the ids of the rows of the test side, and of the rows that they were made from."""
    path = context.round.stage("split") / "test.jsonl"
    if not path.exists():
        return set()
    rows = read_records(path, Example)
    return {one for row in rows for one in (row.id, *row.parents)}
