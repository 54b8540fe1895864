"""The disagreement queue: what the policy can't settle, with both opinions, for an adjudicator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from curation.argilla.connection import Connection, connected
from curation.argilla.guide import problem_labels
from curation.argilla.pull import pull
from curation.argilla.push import Pushed, push
from curation.argilla.record_fields import CANDIDATE_FIRST, order_of
from curation.argilla.remote import dataset_name, find_dataset
from curation.review.votes import Ballot, ballots, by_record
from workbench.language import say
from workbench.persona import Persona
from workbench.records import Decision, Example, Review


def push_queue(
    connection: Connection,
    persona: Persona,
    round_name: str,
    examples: Sequence[Example],
    reviews: Iterable[Review],
    queue: Sequence[Decision],
    *,
    exemplars: Sequence[Example] = (),
    alternatives: Mapping[str, str] | None = None,
) -> Pushed | None:
    """Push the queued records to a dataset of their own; None where nothing is queued.

    One submitted review settles a record there. It comes back with ``pull(..., queue=True)`` and
    goes into ``resolve(..., adjudications=...)``.

    Args:
        connection: With an owner's or admin's key.
        persona: The specification.
        round_name: Such as ``round-001``.
        examples: The reviewed candidates.
        reviews: All reviews of the round.
        queue: What :func:`curation.review.resolve.resolve` left unsettled.
        exemplars: Right answers for the guidelines.
        alternatives: Example id → the other answer of a pair.

    Raises:
        UserError: As :func:`curation.argilla.push.push` does.
    """
    waiting = {decision.record for decision in queue}
    rows = [example for example in examples if example.id in waiting]
    if not rows:
        return None
    votes = by_record(ballots(reviews))
    return push(
        connection,
        persona,
        round_name,
        rows,
        reviewers_per_record=1,
        exemplars=exemplars,
        alternatives=alternatives,
        opinions={
            row.id: opinions(persona, round_name, row, votes.get(row.id, ())) for row in rows
        },
    )


def pull_queue(connection: Connection, persona: Persona, round_name: str) -> list[Review]:
    """Return the adjudicator's word on the queued records; none where no queue was pushed.

    Raises:
        UserError: As :func:`curation.argilla.pull.pull` does.
    """
    with connected(connection) as client:
        pushed = find_dataset(client, dataset_name(persona.id, round_name, queue=True))
    return pull(connection, persona, round_name, queue=True) if pushed else []


def opinions(persona: Persona, round_name: str, example: Example, votes: Iterable[Ballot]) -> str:
    """Return what each reviewer said of ``example``, in the persona's language."""

    def phrase(key: str, **values: object) -> str:
        return say(persona.language, f"review.opinion{key}", **values)

    labels = problem_labels(persona)
    told = []
    for ballot in votes:
        lines = [phrase("", reviewer=ballot.reviewer, fidelity=ballot.fidelity)]
        if ballot.better:
            place = _place(ballot.better, order_of(example, round_name))
            better = say(persona.language, f"review.asked.better.{place}")
            lines.append(phrase(".better", better=better))
        if ballot.problems:
            names = [labels.get(kind, kind) for kind in sorted(ballot.problems)]
            lines.append(phrase(".problems", problems=", ".join(names)))
        if ballot.corrected and ballot.corrected != example.answer:
            lines.append(phrase(".corrected", corrected=ballot.corrected))
        if ballot.note:
            lines.append(phrase(".note", note=ballot.note))
        told.append("\n".join(lines))
    return "\n\n".join(told)


def _place(better: str, order: str) -> str:
    """Return the place on the screen, ``a`` or ``b``, of the side that was found better."""
    if better not in ("candidate", "alternative"):
        return better
    return "a" if (better == "candidate") == (order == CANDIDATE_FIRST) else "b"
