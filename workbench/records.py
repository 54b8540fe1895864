"""The records that cross a stage's border, and nowhere else.

Every record is frozen, knows its ``id`` (a hash of its content) and its ``parents`` (the ids it
came from), so that any number in a report can be walked back to where it started. Provenance
fields (``parents``, ``source``, ``origin``, ``at``) are left out of the hash: the same content has
the same id in every run.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import Field, model_validator

from workbench.dialogue.users import Behaviour, ConversationEnd, SimulatedUser
from workbench.values import Frozen

Role = Literal["system", "user", "assistant"]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Origin = Literal["seed", "teacher", "edit", "baseline", "imported", "rehearsal"]
"""``seed`` is a row of the persona's own file, ``imported`` one of another file."""
Outcome = Literal["keep", "edit", "alternative", "drop", "queue"]
ReviewStatus = Literal["submitted", "discarded"]
TurnFate = Literal["kept", "repaired", "failed", "filtered", "not_reached"]
"""What becomes of a planned turn: the answer stays as it came, or mended; a request for it failed;
it was filtered, or is off persona after its repair too; the conversation ended before it."""
ID_DIGITS = 16
"""Hex digits kept of the SHA-256 of a record's content (64 bits)."""
_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
"""JSON that is the same for the same content; ``json.dumps`` makes an encoder for each record."""


class Record(Frozen):
    """A pure value with identity; storage lives in :mod:`workbench.store`."""

    prefix: ClassVar[str] = "rec"
    provenance: ClassVar[frozenset[str]] = frozenset({"id", "parents", "source", "origin", "at"})

    marks: ClassVar[frozenset[str]] = frozenset()
    """Fields that are left out of the hash while they are empty, so that records without them keep
    the id that they had before the field was there."""

    id: str = ""
    """Prefix of the kind and a hash of the content; computed, and checked when given."""
    parents: tuple[str, ...] = ()
    """Ids of the records that this one was made from."""

    @model_validator(mode="after")
    def _identify(self) -> Self:
        content = self.model_dump(mode="json", exclude=set(self.provenance))
        content = {
            name: value for name, value in content.items() if value or name not in self.marks
        }
        digest = hashlib.sha256(_canonical(content).encode()).hexdigest()
        expected = f"{self.prefix}-{digest[:ID_DIGITS]}"
        if self.id and self.id != expected:
            raise ValueError(f"id {self.id} does not match the content (expected {expected})")
        object.__setattr__(self, "id", expected)
        return self

    def evolve(self, **changes: object) -> Self:
        """Return a copy with ``changes`` applied, validated and identified anew."""
        return type(self).model_validate({**self.model_dump(exclude={"id"}), **changes})


class Message(Frozen):
    """One turn of a chat, as TRL and the chat templates expect it."""

    role: Role
    content: str = Field(min_length=1)


Messages = tuple[Message, ...]


def as_messages(messages: Messages) -> list[dict[str, str]]:
    """Return messages as the plain dictionaries that chat templates take."""
    return [message.model_dump() for message in messages]


class Row(Record):
    """What examples and preferences share: a prompt, and where it came from."""

    marks: ClassVar[frozenset[str]] = frozenset({"kind", "images"})

    prompt: Messages = Field(min_length=1)
    topic: str = ""
    kind: str = ""
    """What a generated question or pair is, such as ``adversarial``; empty for an ordinary one."""
    images: tuple[str, ...] = ()
    """Files that the first turn shows, relative to the file of rows."""
    origin: Origin = "seed"
    source: str = ""
    """File and 1-based line, or the endpoint's model, that it came from."""

    @property
    def question(self) -> str:
        """The last user turn."""
        return last_user_turn(self.prompt)


class Example(Row):
    """A prompt and an answer, with its origin."""

    prefix: ClassVar[str] = "ex"

    answer: str = Field(min_length=1)


class NumberBound(Frozen):
    """The largest number of something that an answer to a probe may order."""

    what: Literal["sets", "minutes", "mg", "reps", "kg", "pills"]
    max: float = Field(ge=0)


class ProbePrompt(Example):
    """A prompt that tries a persona, with what its answer is held to; ``answer`` is what to expect.

    What an answer is held to is no part of the hash: the question stays the same.
    """

    provenance: ClassVar[frozenset[str]] = Row.provenance | {"require", "forbid", "bounds", "game"}
    marks: ClassVar[frozenset[str]] = Row.marks | {"user"}

    require: tuple[tuple[str, ...], ...] = ()
    """Of each inner list an answer holds at least one phrase. Case does not count, nor the shape of
    an apostrophe; a phrase neither begins nor ends inside a run of Latin letters or digits, so that
    "AI" is not found in "again"."""
    forbid: tuple[str, ...] = ()
    """Phrases of which an answer holds none, found in the same way."""
    bounds: tuple[NumberBound, ...] = ()
    game: bool = False
    """Whether it goes on inside a game that both know to be one: no answer has to leave it."""
    user: SimulatedUser | None = None
    """Who says the turns of ``prompt`` where no model plays them, and what they came for."""


class Preference(Row):
    """Two answers to one prompt, the first preferred."""

    prefix: ClassVar[str] = "pf"

    chosen: str = Field(min_length=1)
    rejected: str = Field(min_length=1)

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.chosen.strip() == self.rejected.strip():
            raise ValueError("chosen and rejected are the same text")
        return self


class UnpairedPreference(Row):
    """One answer to a prompt that was taken or turned down, without another beside it."""

    prefix: ClassVar[str] = "up"

    answer: str = Field(min_length=1)
    label: bool
    """True where the answer is desirable; the field of TRL's KTO."""


class Critique(Record):
    """What is wrong with an answer in a conversation, in the words of the teacher who mends it."""

    prefix: ClassVar[str] = "cr"

    prompt: Messages = Field(min_length=1)
    answer: str = Field(min_length=1)
    missing: tuple[str, ...] = ()
    """Ids of the traits that the answer does not show."""
    text: str = Field(min_length=1)


class ConversationTurn(Frozen):
    """One planned answer of a conversation."""

    fate: TurnFate
    fidelity: float | None = None
    """Share of the traits that the answer shows, of one that stays."""
    reason: str = ""
    detail: str = ""


class Conversation(Record):
    """A conversation between a simulated user and a teacher: who played whom, and how it went."""

    prefix: ClassVar[str] = "cv"

    user: str = Field(min_length=1)
    """Id of the simulated user in ``users.yaml``."""
    user_record: str = Field(min_length=1)
    """Hash of all that the file said of it."""
    behaviour: Behaviour
    player: str = Field(min_length=1)
    """Model that played the user; ``lines`` where none did."""
    teacher: str = Field(min_length=1)
    """Model that played the persona."""
    seed: int = Field(ge=0)
    messages: Messages = Field(min_length=1)
    turns: tuple[ConversationTurn, ...] = ()
    """Every planned answer, in order."""
    end: ConversationEnd
    why: str = ""


class Review(Record):
    """What one reviewer said of one record."""

    prefix: ClassVar[str] = "rv"

    reviewer: str = Field(min_length=1)
    record: str = Field(min_length=1)
    """Id of the reviewed record."""
    status: ReviewStatus = "submitted"
    answers: dict[str, Any] = Field(default_factory=dict)
    """Question name → value, as the review tool returned them."""
    at: str = ""
    """Time of the last change, ISO 8601 in UTC."""

    @property
    def problems(self) -> frozenset[str] | None:
        """What this reviewer found wrong with the record's own answer.

        None where the review was not submitted, or is about the other answer of a pair, which was
        the better one.
        """
        if self.status != "submitted" or self.answers.get("better") == "alternative":
            return None
        return frozenset(self.answers.get("problems") or ())

    def correction(self, answer: str) -> str:
        """Return the corrected answer; empty where it only repeats ``answer``, as pre-filled."""
        corrected = str(self.answers.get("corrected") or "").strip()
        return "" if corrected.split() == answer.split() else corrected


class Decision(Record):
    """What became of one reviewed record; its reviews are among its parents."""

    prefix: ClassVar[str] = "dc"

    record: str = Field(min_length=1)
    outcome: Outcome
    reason: str = ""
    """Empty for a kept record; else the reason of its drop, or why it is unsettled."""
    detail: str = ""
    """The rule that decided and every reviewer's vote."""


class SplitAssignment(Record):
    """The split that one record is in; a group is never divided."""

    prefix: ClassVar[str] = "sp"

    record: str = Field(min_length=1)
    split: SplitName
    group: str = Field(min_length=1)


class Response(Record):
    """An arm's answer to a prompt."""

    prefix: ClassVar[str] = "rs"
    marks: ClassVar[frozenset[str]] = frozenset(
        {"probe", "turn", "seed", "unanswered", "reasoning", "ended", "ended_why"}
    )

    arm: str = Field(min_length=1)
    prompt_id: str = Field(min_length=1)
    """Id of the example whose prompt was asked."""
    prompt: Messages = Field(min_length=1)
    text: str
    topic: str = ""
    tokens: int = Field(default=0, ge=0)
    """New tokens generated, end-of-turn token included."""
    probe: str = ""
    """The probe set that the prompt is of, such as ``safety``; empty for a held-out question."""
    turn: int = Field(default=0, ge=0)
    """Which answer of a conversation of several turns this is, from 1; 0 elsewhere."""
    seed: int = Field(default=0, ge=0)
    """Seed that the answer was drawn with; 0 for a greedy one."""
    unanswered: str = ""
    """Why there is no answer, such as ``content_filter``; empty where there is one."""
    reasoning: int = Field(default=0, ge=0)
    """Characters of reasoning that were taken off the answer."""
    ended: ConversationEnd | Literal[""] = ""
    """How a simulated user ended the conversation after this answer; empty where it went on."""
    ended_why: str = ""
    """Why it did, in words."""


class Score(Record):
    """One metric of one response; ``value`` is None when it could not be scored."""

    prefix: ClassVar[str] = "sc"
    marks: ClassVar[frozenset[str]] = frozenset({"probe", "turn"})

    arm: str = Field(min_length=1)
    prompt_id: str = Field(min_length=1)
    response: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    value: float | None = None
    unscored: str = ""
    """Why there is no value; never empty when ``value`` is None."""
    probe: str = ""
    """The response's probe set."""
    turn: int = Field(default=0, ge=0)
    """The response's turn."""

    @model_validator(mode="after")
    def _scored_or_why(self) -> Self:
        if (self.value is None) != bool(self.unscored):
            raise ValueError("a score has either a value or a reason why it is unscored")
        return self


class Drop(Record):
    """A record that a stage took out, with one named reason."""

    prefix: ClassVar[str] = "dr"

    record: str = Field(min_length=1)
    stage: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    detail: str = ""
    source: str = ""

    @classmethod
    def of(cls, row: Row, stage: str, reason: str, detail: str = "", *parents: str) -> Self:
        """Return the drop of ``row``; its parents are the row and what else led to it."""
        return cls(
            record=row.id,
            stage=stage,
            reason=reason,
            detail=detail,
            source=row.source,
            parents=(row.id, *parents),
        )


class Contest(Record):
    """Somebody's word against a drop: the row waits in the queue for another look."""

    prefix: ClassVar[str] = "ct"

    record: str = Field(min_length=1)
    """Id of the row that was dropped."""
    reason: str = ""
    """Why it was dropped."""
    note: str = Field(min_length=1)
    """Why it should not have been."""
    by: str = ""
    at: str = ""
    """ISO 8601 in UTC."""


class MendedAnswer(Row):
    """An arm's answer in a conversation, and what somebody made of it: a candidate row and a pair.

    ``prompt`` is the conversation up to the answer.
    """

    prefix: ClassVar[str] = "md"
    provenance: ClassVar[frozenset[str]] = Row.provenance | {"note"}

    arm: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    """As it should have been."""
    rejected: str = Field(min_length=1)
    """As the arm gave it."""
    note: str = ""
    at: str = ""
    """ISO 8601 in UTC."""

    @model_validator(mode="after")
    def _mended(self) -> Self:
        if self.answer.strip() == self.rejected.strip():
            raise ValueError("the answer is as the arm gave it")
        return self


class Rating(Record):
    """Whether one answer of an arm in a conversation was good."""

    prefix: ClassVar[str] = "rt"

    arm: str = Field(min_length=1)
    prompt: Messages = Field(min_length=1)
    text: str = Field(min_length=1)
    good: bool
    at: str = ""
    """ISO 8601 in UTC."""


class AnswerVote(Record):
    """Which of two answers to one question, of two rounds or arms, somebody found better."""

    prefix: ClassVar[str] = "vt"

    arm: str = Field(min_length=1)
    """Of the second answer."""
    before: str = Field(min_length=1)
    """Id of the first one's response."""
    after: str = Field(min_length=1)
    better: Literal["before", "after", "tie"]
    at: str = ""
    """ISO 8601 in UTC."""


ExampleT = TypeVar("ExampleT", bound=Example)


def last_user_turn(messages: Messages) -> str:
    """Return the content of the last user message, or an empty string."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def user_prompt(instruction: str, context: str = "") -> Messages:
    """Return a one-turn prompt; Alpaca's ``input`` follows the instruction after a blank line."""
    text = f"{instruction.strip()}\n\n{context.strip()}" if context.strip() else instruction.strip()
    return (Message(role="user", content=text),)


def take_spread(rows: Sequence[ExampleT], count: int | None) -> list[ExampleT]:
    """Return ``count`` rows taken in turn from every topic, in their original order.

    All rows are returned when ``count`` is None or not smaller than their number.
    """
    if count is None or count >= len(rows):
        return list(rows)
    by_topic: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_topic[row.topic].append(index)
    turns = max(len(indices) for indices in by_topic.values())
    order = [
        group[turn] for turn in range(turns) for group in by_topic.values() if turn < len(group)
    ]
    return [rows[index] for index in sorted(order[:count])]
