"""A teacher's conversations: simulated users talk to it in persona, and each turn is held to it.

In: a persona, its users, endpoints. Out: :class:`Conversations`, which accounts for every planned
turn. An answer that shows too few traits is critiqued and repaired once; the pair, before and
after, is a preference. :mod:`generation.teacher` calls it. Every request goes by itself, so that no
conversation waits for another; answers are kept as they come.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from generation.pairs import Chosen, JudgeAccount, Pairs, TraitScores, rule_scores
from generation.prompts import nearest_examples, render
from generation.teacher_client import STAGE, TeacherClient
from workbench.config import GenerateSettings
from workbench.console import Advance, track
from workbench.dialogue.players import STEP as USER_STEP
from workbench.dialogue.players import Move, move_of, scripted_move, user_request
from workbench.dialogue.users import ConversationEnd, SimulatedUser
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.client import EndpointClient, run
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.inference.judge import STEP as JUDGE_STEP
from workbench.inference.judge import trait_questions, verdict_of, vote_of
from workbench.persona import Persona
from workbench.prompts import system_prompt, with_system
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
    user_prompt,
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
class _Repair:
    """A turn before and after, with both scores."""

    prompt: Messages
    before: str
    after: str
    scores: tuple[TraitScores, TraitScores]
    critique: Critique


@dataclass
class _Talk:
    """A conversation as it goes on."""

    user: SimulatedUser
    seed: int
    parents: tuple[str, ...]
    system: str
    chat: Messages
    turns: list[ConversationTurn] = field(default_factory=list)
    critiques: list[Critique] = field(default_factory=list)
    repairs: list[_Repair] = field(default_factory=list)
    answered: Messages = ()
    """The conversation up to the last answer that stays."""
    scores: TraitScores | None = None
    """Of that answer."""
    end: ConversationEnd = "no_answer"
    why: str = ""

    def lose(self, fate: TurnFate, reason: str, detail: str) -> None:
        """End with a turn that brought no answer."""
        self.turns.append(ConversationTurn(fate=fate, reason=reason, detail=detail))
        self.why = reason

    def take(self, text: str, scores: TraitScores, fate: TurnFate) -> None:
        """Take an answer that stays."""
        self.chat = self.answered = (*self.chat, Message(role="assistant", content=text))
        self.scores = scores
        self.turns.append(ConversationTurn(fate=fate, fidelity=round(scores.share, 4)))


def _opened(
    persona: Persona, seeds: Sequence[Example], planned: Sequence[PlannedConversation]
) -> list[_Talk]:
    """Return the conversations with their first messages, and what the teacher is shown."""
    first = [(one.user.topic, one.user.first) for one in planned]
    return [
        _Talk(
            one.user,
            one.seed,
            (persona.record_id, *(row.id for row in shown)),
            system_prompt(persona, shown),
            (Message(role="user", content=one.user.first),),
        )
        for one, shown in zip(planned, nearest_examples(persona, seeds, first), strict=True)
    ]


def hold_conversations(
    client: TeacherClient,
    persona: Persona,
    seeds: Sequence[Example],
    planned: Sequence[PlannedConversation],
    settings: GenerateSettings,
    *,
    judge: Endpoint | None = None,
    user: Endpoint | None = None,
    account: JudgeAccount,
) -> Conversations:
    """Return what comes of conversations between users and the teacher.

    Args:
        client: Whose teacher answers, and in whose books every request stands.
        persona: Whom the teacher plays; users never see it.
        seeds: Those nearest to a user's first message are shown to the teacher.
        planned: Who talks.
        settings: ``turn_fidelity`` that an answer has to show, and ``margin`` of a pair.
        judge: Answers the traits' questions that no rule can check.
        user: Plays the users; without one they say their own lines.
        account: Counts what the judge scored.

    Raises:
        UserError: An endpoint refuses the key, went down, or answered nothing at all.
    """
    if not planned:
        return Conversations()
    talks = _opened(persona, seeds, planned)
    turns = sum(one.user.turns for one in planned)
    endpoints = {one.name: one for one in (client.teacher, judge, user) if one is not None}
    with AnswerCache(client.cache) as cache, track("conversations", turns) as advance:
        clients = {
            name: EndpointClient(one, cache=cache, budget=client.share_of_budget(one, endpoints))
            for name, one in endpoints.items()
        }
        stage = _Stage(
            persona,
            settings.turn_fidelity,
            clients[client.teacher.name],
            clients[judge.name] if judge else None,
            clients[user.name] if user else None,
            account,
            advance,
        )
        run(stage.hold(talks, list(clients.values())))
    for (name, step), completions in stage.completions.items():
        client.book(step, endpoints[name], completions)
    return _account(client.teacher.model, user.model if user else LINES, talks, settings.margin)


@dataclass
class _Stage:
    """Where all conversations of a job are held."""

    persona: Persona
    least: float
    """Share of the traits below which an answer is critiqued."""
    teacher: EndpointClient
    judge: EndpointClient | None
    user: EndpointClient | None
    account: JudgeAccount
    advance: Advance
    completions: dict[tuple[str, str], list[Completion]] = field(default_factory=dict)
    """Endpoint and step → what was asked."""

    async def hold(self, talks: Sequence[_Talk], clients: Sequence[EndpointClient]) -> None:
        """Play all conversations to their ends, side by side."""
        for one in clients:
            one.open()
        try:
            await asyncio.gather(*(self._play(talk) for talk in talks))
        finally:
            for one in clients:
                await one.close()

    async def _play(self, talk: _Talk) -> None:
        while len(talk.turns) < talk.user.turns and await self._answer(talk):
            self.advance(1)
            move = await self._move(talk)
            if not move.text:
                talk.end, talk.why = move.end or "turns_out", move.reason
                if move.end == "user_failed" and len(talk.turns) < talk.user.turns:
                    talk.lose("failed", "user_failed", move.reason)
                break
            talk.chat = (*talk.chat, Message(role="user", content=move.text))
        left = talk.user.turns - len(talk.turns)
        talk.turns += [ConversationTurn(fate="not_reached")] * left
        self.advance(left)

    async def _ask(self, client: EndpointClient, step: str, request: EndpointRequest) -> Completion:
        completion = await client.complete(request, step)
        self.completions.setdefault((client.endpoint.name, step), []).append(completion)
        return completion

    async def _move(self, talk: _Talk) -> Move:
        if self.user is None:
            return scripted_move(talk.user, talk.chat)
        request = user_request(talk.user, talk.chat, self.persona.language, talk.seed)
        completion = await self._ask(self.user, USER_STEP, request)
        return move_of(talk.user, talk.chat, completion)

    async def _teach(self, talk: _Talk, step: str, chat: Messages) -> str | None:
        """Return what the teacher says; None, and the talk's end, where it says nothing."""
        request = EndpointRequest(chat, temperature=TEMPERATURE, seed=talk.seed)
        completion = await self._ask(self.teacher, step, request)
        if completion.ok:
            return completion.text
        lost: TurnFate = "filtered" if completion.end == "filtered" else "failed"
        talk.lose(lost, completion.reason, ", ".join(filter(None, (step, completion.about()))))
        return None

    async def _answer(self, talk: _Talk) -> bool:
        """Take the teacher's next answer into a talk; return whether there is one that stays."""
        text = await self._teach(talk, ANSWERS, with_system(talk.system, talk.chat))
        if text is None:
            return False
        scores = await self._scores(talk.chat, text)
        if scores.share >= self.least:
            talk.take(text, scores, "kept")
            return True
        return await self._mend(talk, text, scores)

    async def _mend(self, talk: _Talk, text: str, scores: TraitScores) -> bool:
        """Have an answer critiqued and repaired once; return whether the repair stays."""
        missing = [trait.about for trait in self.persona.traits if trait.id in scores.missing]
        asked = render("critique", self.persona, chat=talk.chat, answer=text, missing=missing)
        words = await self._teach(talk, CRITIQUES, user_prompt(asked))
        if words is None:
            return False
        critique = Critique(
            prompt=talk.chat,
            answer=text,
            missing=scores.missing,
            text=words,
            parents=talk.parents,
        )
        talk.critiques.append(critique)
        question = talk.chat[-1].content
        asked = render("repair", self.persona, question=question, answer=text, critique=words)
        chat = with_system(talk.system, (*talk.chat[:-1], *user_prompt(asked)))
        mended = await self._teach(talk, REPAIRS, chat)
        if mended is None:
            return False
        after = await self._scores(talk.chat, mended)
        if after.share < self.least:
            talk.lose("filtered", OFF_PERSONA, f"lacks {', '.join(after.missing)}")
            return False
        talk.repairs.append(_Repair(talk.chat, text, mended, (scores, after), critique))
        talk.take(mended, after, "repaired")
        return True

    async def _scores(self, chat: Messages, text: str) -> TraitScores:
        scores, judge = rule_scores(self.persona, text), self.judge
        if judge is None:
            return scores
        questions = trait_questions(self.persona, chat, text)
        asked = (self._ask(judge, JUDGE_STEP, one.ask.request()) for one in questions)
        for question, completion in zip(questions, await asyncio.gather(*asked), strict=True):
            self.account.take(scores, question.metric, verdict_of([vote_of(completion)]))
        return scores


def _account(teacher: str, player: str, talks: Sequence[_Talk], margin: float) -> Conversations:
    """Return the rows, pairs and records of what was said."""
    result = Conversations(planned=sum(talk.user.turns for talk in talks))
    for talk in talks:
        record = Conversation(
            user=talk.user.id,
            user_record=talk.user.record_id,
            behaviour=talk.user.behaviour,
            player=player,
            teacher=teacher,
            seed=talk.seed,
            messages=talk.chat,
            turns=tuple(talk.turns),
            end=talk.end,
            why=talk.why,
            parents=(*talk.parents, *(one.id for one in talk.critiques)),
        )
        result.conversations.append(record)
        result.critiques += talk.critiques
        result.dropped += [
            Drop(
                record=record.id,
                stage=STAGE,
                reason=turn.reason,
                detail=f"turn {number}: {turn.detail}",
                source=teacher,
                parents=(record.id,),
            )
            for number, turn in enumerate(talk.turns, start=1)
            if turn.fate in ("failed", "filtered")
        ]
        if talk.scores is None:
            continue
        row = Example(
            prompt=talk.answered[:-1],
            answer=talk.answered[-1].content,
            topic=talk.user.topic,
            kind=CONVERSATION,
            origin="teacher",
            source=teacher,
            parents=(record.id, *talk.parents),
        )
        result.rows.append(Chosen(row, talk.scores))
        for repair in talk.repairs:
            _add_pair(result.pairs, row, repair, margin)
    return result


def _add_pair(pairs: Pairs, row: Example, repair: _Repair, margin: float) -> None:
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
