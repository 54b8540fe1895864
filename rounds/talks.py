"""Conversations with the arms of a round, side by side: asked, branched, and given back.

In: a round, its arms and a question. Out: every arm's answer, piece by piece, and the conversation
that each arm has had. One base is in memory at a time, and it goes when another round is talked to,
when nobody asked for a while, or when a stage needs the memory. The pages call it, and ``persona
chat`` for what a line says of an answer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from rounds import notes
from rounds.arms import arm_name
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from rounds.models import known_arm
from rounds.overview import BASE, trained_methods
from rounds.prompt_arms import arm_prompt, searched_prompts
from rounds.round import Chat, open_chats
from rounds.rows import RowTable
from workbench.errors import UserError
from workbench.records import Message, Messages, last_user_turn

IDLE = 600.0
"""Seconds without a question after which the models are given back."""
CHAT_WORDS = ("/good", "/bad", "/mend", "/branch")
"""What a line of a terminal's chat may begin with that is no question."""
MOST_TALKS = 50
"""Conversations that are remembered; the oldest goes first."""


class AnswerChunk(NamedTuple):
    """What an arm has answered so far."""

    arm: str
    text: str
    done: bool


@dataclass
class Talk:
    """A conversation with several arms, each with its own history."""

    id: str
    round: RoundFolder
    messages: dict[str, Messages]
    """Arm → its conversation, a system prompt first where it has one."""
    asked: str = ""
    """A question that is not answered yet, or not by all."""
    answered: set[str] = field(default_factory=set)
    """Arms that answered it already, where an answer broke off."""
    troubles: dict[str, str] = field(default_factory=dict)
    """Arm → why it could not answer the last question."""

    @property
    def arms(self) -> list[str]:
        """The arms, in their order."""
        return list(self.messages)

    def branch(self, arm: str, turns: int) -> None:
        """Go on from an earlier turn of one arm, for all of them: ``turns`` messages stay.

        Raises:
            UserError: There is no such arm or turn.
        """
        own = self.messages.get(arm)
        if own is None or not 0 <= turns <= len(_turns(own)):
            raise UserError(f"there is no turn {turns} of '{arm}'")
        for name, messages in self.messages.items():
            self.messages[name] = (*_system(messages), *_turns(own)[:turns])


def _system(messages: Messages) -> Messages:
    return tuple(message for message in messages if message.role == "system")


def _turns(messages: Messages) -> Messages:
    return tuple(message for message in messages if message.role != "system")


def arms_of(context: RoundContext) -> list[str]:
    """Return the arms that can be talked to: the base, prompted too, and each trained stage."""
    prompted = dict.fromkeys((f"{BASE}+prompt", *searched_prompts(context.round)))
    return [BASE, *prompted, *map(arm_name, trained_methods(context.round))]


@dataclass
class TalkRoom:
    """The one place of a server that holds models: one round's arms at a time."""

    max_new_tokens: int = 200
    _talks: dict[str, Talk] = field(default_factory=dict)
    _loaded: tuple[RoundFolder, str] | None = None
    _chats: dict[str, Chat] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _busy: Lock = field(default_factory=Lock)
    _used: float = 0.0

    def begin(self, context: RoundContext, arms: Sequence[str]) -> Talk:
        """Begin a conversation with some arms; no model is loaded yet.

        Raises:
            UserError: There is no such arm, or none is named.
        """
        if not arms:
            raise UserError("no arm is chosen", fix="choose at least one to talk to")
        names = [known_arm(context, name).name for name in arms]
        prompts = {name: arm_prompt(context, name) for name in names}
        messages: dict[str, Messages] = {
            name: (Message(role="system", content=text),) if text else ()
            for name, text in prompts.items()
        }
        talk = Talk(secrets.token_urlsafe(9), context.round, messages)
        self._talks[talk.id] = talk
        while len(self._talks) > MOST_TALKS:
            self._talks.pop(next(iter(self._talks)))
        return talk

    def talk(self, name: str) -> Talk:
        """Return a conversation that was begun.

        Raises:
            UserError: It is not known: the server was started anew.
        """
        if name not in self._talks:
            raise UserError("this conversation is over", fix="begin a new one")
        return self._talks[name]

    def answer(self, context: RoundContext, talk: Talk) -> Iterator[AnswerChunk]:
        """Yield what each arm answers to the question that was asked, one arm after the other.

        Raises:
            UserError: Somebody else's answer is under way, or a model is not there.
        """
        if not self._busy.acquire(blocking=False):
            raise UserError("another answer is under way", fix="ask again in a moment")
        try:
            question = talk.asked
            if not question:
                return
            for name, chat in self._open(context, talk.arms).items():
                if name in talk.answered:
                    continue
                chat.messages, text = talk.messages[name], ""
                try:
                    for piece in chat.stream(question):
                        text += piece
                        yield AnswerChunk(name, text, False)
                    talk.messages[name] = chat.messages
                    talk.troubles.pop(name, None)
                except UserError as error:  # the other arms may have room
                    talk.troubles[name] = error.line()
                talk.answered.add(name)
                yield AnswerChunk(name, talk.troubles.get(name) or chat.messages[-1].content, True)
            talk.asked, talk.answered = "", set()
            self._used = time.monotonic()
        finally:
            self._busy.release()

    def _open(self, context: RoundContext, arms: Sequence[str]) -> dict[str, Chat]:
        every = arms_of(context)
        key = (context.round, ",".join(every))
        if self._loaded != key:
            self._give_back()
            opened = open_chats(context, every, self.max_new_tokens)
            self._chats = self._stack.enter_context(opened)
            self._loaded = key
        return {name: self._chats[name] for name in arms}

    def _give_back(self) -> None:
        self._stack.close()
        self._chats, self._loaded = {}, None

    def close(self, *, idle: bool = False) -> bool:
        """Give the models' memory back; ``idle`` only where nobody asked for :data:`IDLE` seconds.

        Return whether there was any; an answer that is under way is not disturbed.
        """
        if idle and time.monotonic() - self._used < IDLE:
            return False
        if self._loaded is None or not self._busy.acquire(blocking=False):
            return False
        try:
            self._give_back()
        finally:
            self._busy.release()
        return True


def chat_word(context: RoundContext, chats: Mapping[str, Chat], line: str) -> str | None:
    """Do what a line of a terminal's chat says of the last answer; None where it is a question.

    ``/good`` and ``/bad`` rate it, ``/mend TEXT`` keeps it as it should have been, a candidate row
    and a pair of the next round, and ``/branch N`` goes on from the N-th answer, for all arms. Of
    several arms the first word after it says which is meant.

    Returns:
        What was done, in a line.

    Raises:
        UserError: Nothing is answered yet, no such arm or answer, or nothing was mended.
    """
    word, _, rest = line.partition(" ")
    if word not in CHAT_WORDS:
        return None
    if word == "/branch":
        return _branched(chats, rest.strip())
    arm, chat = next(iter(chats.items()))
    if len(chats) > 1:
        arm, _, rest = rest.strip().partition(" ")
        if arm not in chats:
            raise UserError(f"{word} says of no arm", fix=f"such as `{word} {next(iter(chats))}`")
        chat = chats[arm]
    if not chat.messages or chat.messages[-1].role != "assistant":
        raise UserError(f"{arm} has answered nothing yet", fix="ask something first")
    prompt, text = chat.messages[:-1], chat.messages[-1].content
    if word != "/mend":
        notes.rate(context.round, arm, prompt, text, good=word == "/good")
        return f"kept: {arm}'s answer was {word[1:]}"
    topic = RowTable.read(context.round).topic_of(last_user_turn(prompt))
    mended = notes.mend(context.round, arm, prompt, text, rest, topic=topic)
    about = f", on {context.persona.topic_name(topic)}" if topic else ", on no topic"
    return f"kept as {mended.id}{about}: `{context.options.command('next')}` takes it along"


def _branched(chats: Mapping[str, Chat], number: str) -> str:
    """Let all arms go on from their answer of a number, counted from 1; 0 begins anew."""
    answers = min(
        sum(turn.role == "assistant" for turn in chat.messages) for chat in chats.values()
    )
    if not number.isdecimal() or int(number) > answers:
        raise UserError(f"/branch goes on from an answer, 0 to {answers}", fix="such as /branch 1")
    for chat in chats.values():
        chat.messages = (*_system(chat.messages), *_turns(chat.messages)[: 2 * int(number)])
    return f"on from answer {number}" if int(number) else "from the beginning"
