"""What people say of a round beside its stages: contested drops, mended answers, ratings, votes.

In: a round, and what somebody said on a page or from Python. Out: a line in a file of the round's
folder ``notes/``, which no stage makes and none replaces. What is said twice stands there once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from typing import Literal, TypeVar

from rounds.layout import DROPS, Records, RoundFolder, write
from workbench.errors import UserError
from workbench.records import AnswerVote, Contest, Drop, MendedAnswer, Messages, Rating, Record
from workbench.store import locked
from workbench.text import normalize

R = TypeVar("R", bound=Record)
CONTESTS = Records("notes", "contests.jsonl", Contest)
MENDED = Records("notes", "mended.jsonl", MendedAnswer)
RATINGS = Records("notes", "ratings.jsonl", Rating)
VOTES = Records("notes", "votes.jsonl", AnswerVote)
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
    one: RoundFolder, arm: str, prompt: Messages, rejected: str, answer: str, note: str = ""
) -> MendedAnswer:
    """Keep an answer as it should have been, with the conversation up to it.

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
    """Keep which of two rounds' responses is better, by their ids; ``one`` is the later round."""
    own = AnswerVote(
        arm=arm, before=before, after=after, better=better, at=_now(), parents=(before, after)
    )
    return keep(one, VOTES, own)


def _text(text: str, what: str, fix: str) -> str:
    text = normalize(text).strip()
    if not text:
        raise UserError(what, fix=fix)
    return text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
