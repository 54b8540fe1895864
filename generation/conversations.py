"""A teacher's conversations: simulated users talk to it in persona, and each turn is held to it.

In: a persona, its users, endpoints. Out: :class:`Conversations`, which accounts for every planned
turn. An answer that shows too few traits is critiqued and repaired once; the pair, before and
after, is a preference. :mod:`generation.pipelines.talks` plays a :class:`PlayedTalk`;
:mod:`generation.teacher` calls what stands here before and after it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from generation.pairs import Chosen, Pairs, TraitScores
from generation.prompts import nearest_examples
from generation.teacher_client import STAGE
from workbench.config import GenerateSettings
from workbench.dialogue.players import Move
from workbench.dialogue.users import ConversationEnd, SimulatedUser
from workbench.persona import Persona
from workbench.prompts import system_prompt
from workbench.records import (
    Conversation,
    ConversationTurn,
    Critique,
    Drop,
    Example,
    Message,
    Messages,
    Preference,
    TurnFate,
)

ANSWERS, CRITIQUES, REPAIRS = "conversations", "critiques", "repairs"
"""Steps by which the teacher's part is counted."""
CONVERSATION = "conversation"
"""Kind of a row that is one."""
LINES = "lines"
"""Who played a user that no model played."""
REPAIRED = "repaired"
"""Kind of the pair that a repair makes."""
TEMPERATURE = 0.7
OFF_PERSONA = "off_persona"
"""Why a turn is filtered that shows too few traits after its repair."""


@dataclass(frozen=True)
class PlannedConversation:
    """One conversation that is wanted."""

    user: SimulatedUser
    seed: int


@dataclass
class Conversations:
    """What came of the planned conversations; the fates of all turns add up to the plan."""

    planned: int = 0
    """Turns, as many as every user waits for at the most."""
    rows: list[Chosen] = field(default_factory=list)
    """One a conversation that has an answer: its last one, with all that went before."""
    conversations: list[Conversation] = field(default_factory=list)
    critiques: list[Critique] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    pairs: Pairs = field(default_factory=Pairs)

    @property
    def fates(self) -> dict[TurnFate, int]:
        """Fate → turns."""
        return dict(Counter(turn.fate for one in self.conversations for turn in one.turns))


def plan_conversations(
    users: Sequence[SimulatedUser], settings: GenerateSettings, seed: int = 0
) -> list[PlannedConversation]:
    """Return the wanted conversations: the users for training in turn, each time drawn anew."""
    ours = [user for user in users if not user.held_out]
    random.Random(f"conversations:{seed}").shuffle(ours)
    return [
        PlannedConversation(ours[number % len(ours)], seed * 1_000_003 + number // len(ours))
        for number in range(settings.conversations if ours else 0)
    ]


@dataclass
class Repair:
    """A turn before and after, with both scores."""

    prompt: Messages
    before: str
    after: str
    scores: tuple[TraitScores, TraitScores]
    critique: Critique


@dataclass
class PlayedTalk:
    """A conversation as it goes on."""

    user: SimulatedUser
    seed: int
    teacher: str
    """Model of the teacher."""
    parents: tuple[str, ...]
    system: str
    chat: Messages
    turns: list[ConversationTurn] = field(default_factory=list)
    critiques: list[Critique] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    answered: Messages = ()
    """The conversation up to the last answer that stays."""
    scores: TraitScores | None = None
    """Of that answer."""
    end: ConversationEnd | Literal[""] = ""
    """Empty while it goes on."""
    why: str = ""

    def lose(self, fate: TurnFate, reason: str, detail: str) -> None:
        """End with a turn that brought no answer."""
        self.turns.append(ConversationTurn(fate=fate, reason=reason, detail=detail))
        self.end, self.why = "no_answer", reason

    def take(self, text: str, scores: TraitScores, fate: TurnFate) -> None:
        """Take an answer that stays."""
        self.chat = self.answered = (*self.chat, Message(role="assistant", content=text))
        self.scores = scores
        self.turns.append(ConversationTurn(fate=fate, fidelity=round(scores.share, 4)))

    def move(self, move: Move) -> None:
        """Go on with the user's next message, or end."""
        if move.text:
            self.chat = (*self.chat, Message(role="user", content=move.text))
            return
        self.why = move.reason
        if move.end == "user_failed" and len(self.turns) < self.user.turns:
            self.lose("failed", "user_failed", move.reason)
        self.end = move.end or "turns_out"


def open_talks(
    persona: Persona,
    seeds: Sequence[Example],
    planned: Sequence[PlannedConversation],
    teachers: Sequence[str],
) -> list[PlayedTalk]:
    """Return the conversations with their first messages, and what the teacher is shown.

    Users never see the persona. Of the seeds those nearest to a user's first message are shown;
    ``teachers`` are the models of each one's teacher.
    """
    first = [(one.user.topic, one.user.first) for one in planned]
    return [
        PlayedTalk(
            one.user,
            one.seed,
            teacher,
            (persona.record_id, *(row.id for row in shown)),
            system_prompt(persona, shown),
            (Message(role="user", content=one.user.first),),
        )
        for one, teacher, shown in zip(
            planned, teachers, nearest_examples(persona, seeds, first), strict=True
        )
    ]


def conversations_of(talks: Sequence[PlayedTalk], player: str, margin: float) -> Conversations:
    """Return the rows, pairs and records of what was said.

    Fidelities of a pair differ by ``margin`` at the least.
    """
    result = Conversations(planned=sum(talk.user.turns for talk in talks))
    for talk in talks:
        record = _record(talk, player)
        result.conversations.append(record)
        result.critiques += talk.critiques
        result.dropped += _drops(talk, record)
        if talk.scores is None:
            continue
        row = Example(
            prompt=talk.answered[:-1],
            answer=talk.answered[-1].content,
            topic=talk.user.topic,
            kind=CONVERSATION,
            origin="teacher",
            source=talk.teacher,
            parents=(record.id, *talk.parents),
        )
        result.rows.append(Chosen(row, talk.scores))
        for repair in talk.repairs:
            _add_pair(result.pairs, row, repair, margin)
    return result


def _record(talk: PlayedTalk, player: str) -> Conversation:
    unreached = talk.user.turns - len(talk.turns)
    return Conversation(
        user=talk.user.id,
        user_record=talk.user.record_id,
        behaviour=talk.user.behaviour,
        player=player,
        teacher=talk.teacher,
        seed=talk.seed,
        messages=talk.chat,
        turns=(*talk.turns, *[ConversationTurn(fate="not_reached")] * unreached),
        end=talk.end or "no_answer",
        why=talk.why,
        parents=(*talk.parents, *(one.id for one in talk.critiques)),
    )


def _drops(talk: PlayedTalk, record: Conversation) -> list[Drop]:
    return [
        Drop(
            record=record.id,
            stage=STAGE,
            reason=turn.reason,
            detail=f"turn {number}: {turn.detail}",
            source=talk.teacher,
            parents=(record.id,),
        )
        for number, turn in enumerate(talk.turns, start=1)
        if turn.fate in ("failed", "filtered")
    ]


def _add_pair(pairs: Pairs, row: Example, repair: Repair, margin: float) -> None:
    """Add the pair of a repaired turn, which is trained on where its conversation is kept."""
    before, after = repair.scores
    pair = Preference(
        prompt=repair.prompt,
        chosen=repair.after,
        rejected=repair.before,
        topic=row.topic,
        kind=REPAIRED,
        origin="teacher",
        source=row.source,
        parents=(row.id, repair.critique.id),
    )
    pairs.take(pair, after.share, before.share, margin)
