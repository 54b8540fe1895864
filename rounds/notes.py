"""What people say of a round beside its stages: contested drops, mended answers, ratings, votes.

In: a round, and what somebody said on a page or from Python. Out: a line in a file of the round's
folder ``notes/``, which no stage makes and none replaces. What is said twice stands there once.
``persona next`` carries what follows of them into the next round's notes, where its stages read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Literal, TypeVar

from rounds.artifacts import Records
from rounds.layout import DROPS, FILTERED, GENERATED, IMPORTED, RESOLVED, RoundFolder, write
from workbench.errors import UserError
from workbench.records import (
    AnswerVote,
    Contest,
    Drop,
    Example,
    MendedAnswer,
    Messages,
    Preference,
    Rating,
    Record,
)
from workbench.store import locked
from workbench.text import normalize

R = TypeVar("R", bound=Record)
CONTESTS = Records("notes", "contests.jsonl", Contest)
MENDED = Records("notes", "mended.jsonl", MendedAnswer)
RATINGS = Records("notes", "ratings.jsonl", Rating)
VOTES = Records("notes", "votes.jsonl", AnswerVote)
CANDIDATES = Records("notes", "candidates.jsonl", Example)
"""Mended answers of earlier rounds, as rows that this round's import takes."""
MENDED_PAIRS = Records("notes", "pairs.jsonl", Preference)
"""Those answers over what the arm had said: each is trained on where people keep its row."""
CONTESTED = Records("notes", "contested.jsonl", Example)
"""Rows that earlier rounds dropped and somebody contested: they pass this round's filters."""
_SAME: dict[type[Record], tuple[str, str]] = {
    Contest: ("record", "by"),
    MendedAnswer: ("prompt", "rejected"),
    Rating: ("arm", "prompt"),
    AnswerVote: ("before", "after"),
}
"""Model → fields that say what a record is about: of two about the same the later one counts."""


def keep(one: RoundFolder, artifact: Records[R], record: R) -> R:
    """Write a record into a file of notes and return it; it replaces a word about the same thing.

    Raises:
        UserError: The folder cannot be written, or somebody writes there at this moment.
    """
    about = attrgetter(*_SAME[artifact.model])
    with locked(one.folder / ".notes.lock", one.folder):
        before = [other for other in one.read_if_there(artifact) if about(other) != about(record)]
        write(one.stage(artifact.stage), artifact, [*before, record])
    return record


def drop_of(one: RoundFolder, record: str) -> Drop | None:
    """Return why a stage took a row out; None for one that none did."""
    drops = (drop for artifact in DROPS.values() for drop in one.read_if_there(artifact))
    return next((drop for drop in drops if drop.record == record), None)


def contest(one: RoundFolder, record: str, note: str, by: str = "") -> Contest:
    """Put a dropped row into the queue for another look, with a note of why.

    Raises:
        UserError: No stage dropped the row, or there is no note.
    """
    drop = drop_of(one, record)
    if drop is None:
        fix = "contest a row that a stage took out"
        raise UserError(f"{record} was not dropped", where=str(one.folder), fix=fix)
    text = _text(note, "the note is empty", "say in a line why the row should stay")
    parents = (drop.id, record)
    own = Contest(record=record, reason=drop.reason, note=text, by=by, at=_now(), parents=parents)
    return keep(one, CONTESTS, own)


def mend(
    one: RoundFolder,
    arm: str,
    prompt: Messages,
    rejected: str,
    answer: str,
    note: str = "",
    topic: str = "",
) -> MendedAnswer:
    """Keep an answer as it should have been, with the conversation up to it.

    ``topic`` is the persona's that the conversation is about; empty where it is about none.

    Raises:
        UserError: Nothing was changed, or nothing is left.
    """
    text = _text(answer, "the mended answer is empty", "write what should have been said")
    if text == normalize(rejected).strip():
        raise UserError("nothing was mended", fix="change the answer, or rate it as good")
    own = MendedAnswer(
        arm=arm,
        prompt=tuple(message for message in prompt if message.role != "system"),
        answer=text,
        rejected=normalize(rejected),
        topic=topic,
        note=normalize(note).strip(),
        origin="edit",
        source=f"{one.name}/{arm}",
        at=_now(),
    )
    return keep(one, MENDED, own)


def rate(one: RoundFolder, arm: str, prompt: Messages, text: str, good: bool) -> Rating:
    """Keep whether an answer in a conversation was good."""
    rating = Rating(arm=arm, prompt=prompt, text=text, good=good, at=_now())
    return keep(one, RATINGS, rating)


def vote(
    one: RoundFolder, arm: str, before: str, after: str, better: Literal["before", "after", "tie"]
) -> AnswerVote:
    """Keep which of two responses is better, by their ids; ``one`` is the round it is said of."""
    own = AnswerVote(
        arm=arm, before=before, after=after, better=better, at=_now(), parents=(before, after)
    )
    return keep(one, VOTES, own)


def carry_notes(earlier: Sequence[RoundFolder], opened: RoundFolder) -> dict[str, int]:
    """Write what people said of earlier rounds into a new round's notes; again replaces it.

    A mended answer becomes a candidate row whose parent is the conversation, and a pair over what
    the arm had said. A contested drop comes back as the row that it was, with the word against the
    drop. Each goes into one round only, and no row that was kept after all goes into another.

    Returns:
        ``mended`` and ``contested`` → rows that were carried over.
    """
    carried = {
        row.id
        for one in earlier
        for artifact in (CANDIDATES, CONTESTED, RESOLVED)
        for row in one.read_if_there(artifact)
    }
    every = [own for one in earlier for own in one.read_if_there(MENDED)]
    mended = {row.id: row for row in map(as_candidate_row, every) if row.id not in carried}
    pairs = {pair.id: pair for pair in map(as_pair, every) if pair.parents[0] in mended}
    contests = [own for one in earlier for own in one.read_if_there(CONTESTS)]
    wanted = {own.record for own in contests} - carried
    rows = {
        row.id: row
        for one in earlier
        for artifact in (IMPORTED, GENERATED, FILTERED)
        for row in one.read_if_there(artifact)
        if row.id in wanted
    }
    for artifact, records in (
        (CANDIDATES, list(mended.values())),
        (MENDED_PAIRS, list(pairs.values())),
        (CONTESTED, list(rows.values())),
        (CONTESTS, [own for own in contests if own.record in rows]),
    ):
        if records or opened.has(artifact):
            write(opened.stage(artifact.stage), artifact, records)
    return {"mended": len(mended), "contested": len(rows)}


def as_candidate_row(mended: MendedAnswer) -> Example:
    """Return a mended answer as a row to filter and review; its parent is the conversation."""
    return Example(
        prompt=mended.prompt,
        answer=mended.answer,
        topic=mended.topic,
        origin=mended.origin,
        source=mended.source,
        parents=(mended.id,),
    )


def as_pair(mended: MendedAnswer) -> Preference:
    """Return a mended answer over what the arm had said; its first parent is the row."""
    row = as_candidate_row(mended)
    return Preference(
        **row.model_dump(exclude={"id", "answer", "parents"}),
        chosen=mended.answer,
        rejected=mended.rejected,
        parents=(row.id, mended.id),
    )


def carried_rows(reader: RoundFolder) -> list[Example]:
    """Return the rows that ``persona next`` carried into a round's notes."""
    return [row for part in (CANDIDATES, CONTESTED) for row in reader.read_if_there(part)]


def carried_files(one: RoundFolder) -> dict[str, Path]:
    """Return the files of :func:`carried_rows` that there are, by their path in the round."""
    return {part.path: one.path(part) for part in (CANDIDATES, CONTESTED) if one.has(part)}


def contested_rows(one: RoundFolder) -> list[str]:
    """Return the ids of rows that people look at in a round whatever a filter says.

    Those of earlier rounds too: what people kept there, no filter takes out later.
    """
    rounds = (*one.earlier, one)
    return sorted({row.id for own in rounds for row in own.read_if_there(CONTESTED)})


def contest_notes(one: RoundFolder) -> dict[str, str]:
    """Return row → what was said against its drop, with the names of those who said it."""
    notes: dict[str, list[str]] = {}
    for own in one.read_if_there(CONTESTS):
        notes.setdefault(own.record, []).append(f"{own.by}: {own.note}" if own.by else own.note)
    return {record: "\n".join(lines) for record, lines in notes.items()}


def _text(text: str, what: str, fix: str) -> str:
    text = normalize(text).strip()
    if not text:
        raise UserError(what, fix=fix)
    return text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
