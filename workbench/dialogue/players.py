"""Who plays a simulated user: their own lines, or a model with the roles swapped.

In: a user and the conversation up to an answer. Out: a :class:`Move`, the next message or why there
is none. Generation and evaluation ask the same players. What a model is shown is the user alone and
the conversation; it never sees whom it talks to beyond what that one says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from workbench.dialogue.users import ConversationEnd, SimulatedUser
from workbench.inference.client import complete_all
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.persona import Language
from workbench.prompts import load_template
from workbench.records import Message, Messages

STEP = "simulated_user"
"""Name under which a cache counts what the user model is paid."""
TEMPERATURE = 0.8
MAX_TOKENS = 400


class Move(NamedTuple):
    """What a user does after an answer."""

    text: str = ""
    """The next message; empty where the conversation ends."""
    end: ConversationEnd | Literal[""] = ""
    reason: str = ""
    """Why it ends, in words."""
    completion: Completion | None = None
    """What the model that plays the user was asked for it."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: Literal["go_on", "goal_met", "given_up"]
    reason: str
    message: str


def scripted_move(user: SimulatedUser, chat: Messages) -> Move:
    """Return what a user says by their own lines.

    They say all that they came to say, and give up where an answer only repeats the last one, or
    the second in a row is empty. ``chat`` goes up to an answer, without a system message.
    """
    answers = [message.content for message in chat if message.role == "assistant"]
    if len(answers) > 1 and _words(answers[-1]) == _words(answers[-2]):
        return Move(end="given_up", reason="the answer repeats the one before")
    if len(answers) >= user.turns:
        if user.is_satisfied(answers):
            return Move(end="goal_met", reason="the answers hold what they came for")
        return Move(end="turns_out", reason=f"{user.turns} turns are over")
    return Move(user.messages[len(answers)])


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.casefold()).split()


def user_request(
    user: SimulatedUser, chat: Messages, language: Language, seed: int = 0
) -> EndpointRequest:
    """Return what the model that plays a user is asked: the conversation with the roles swapped.

    The user's lines are not shown; ``chat`` goes up to an answer, without a system message. Another
    seed brings another conversation.
    """
    template = load_template("user", language)
    left = user.turns - sum(message.role == "assistant" for message in chat)
    system, opening, form = template.render(user=user, left=left).split("\n---\n")
    messages = [Message(role="system", content=system.strip())]
    # Servers want a user's turn first; what this user said is the assistant's part here.
    messages.append(Message(role="user", content=opening.strip()))
    messages += [
        Message(role="user" if one.role == "assistant" else "assistant", content=one.content)
        for one in chat
    ]
    answer = messages.pop().content
    messages.append(Message(role="user", content=f"{answer}\n\n{form.strip()}"))
    return EndpointRequest(
        tuple(messages),
        temperature=TEMPERATURE,
        max_tokens=MAX_TOKENS,
        seed=_draw(user, chat, seed),
        schema=_Reply,
    )


def _draw(user: SimulatedUser, chat: Messages, seed: int) -> int:
    """Return the seed of one message: users and turns draw apart."""
    text = f"{seed}:{user.id}:{sum(message.role == 'user' for message in chat)}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) >> 1


def move_of(user: SimulatedUser, chat: Messages, completion: Completion) -> Move:
    """Return the move that a model's reply stands for; its turns are bounded by the user's own."""
    if not completion.ok:
        return Move(end="user_failed", reason=completion.reason, completion=completion)
    reply = _Reply.model_validate_json(completion.text)
    text = reply.message.strip()
    if reply.state != "go_on":
        return Move(end=reply.state, reason=reply.reason, completion=completion)
    if sum(message.role == "assistant" for message in chat) >= user.turns:
        reason = f"{user.turns} turns are over"
        return Move(end="turns_out", reason=reason, completion=completion)
    if not text:
        reason = "an empty message"
        return Move(end="user_failed", reason=reason, completion=completion)
    return Move(text, completion=completion)


class Waiting(NamedTuple):
    """A conversation whose user is to say something."""

    user: SimulatedUser
    chat: Messages
    seed: int = 0


class ModelPlayer:
    """An endpoint that plays users; it is asked about many conversations at once."""

    def __init__(self, endpoint: Endpoint, language: Language, cache: Path | None = None) -> None:
        self.endpoint, self.language, self.cache = endpoint, language, cache

    def moves(self, waiting: Sequence[Waiting]) -> list[Move]:
        """Return each user's move, in order.

        Raises:
            UserError: Nothing answers there, or the endpoint refuses the key or the model.
        """
        requests = [user_request(w.user, w.chat, self.language, w.seed) for w in waiting]
        completions = complete_all(self.endpoint, requests, cache=self.cache, step=STEP)
        return [
            move_of(one.user, one.chat, completion)
            for one, completion in zip(waiting, completions, strict=True)
        ]
