"""What is heard of a served model: a prompt as it renders it, and an answer token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workbench.records import Messages


@dataclass(frozen=True)
class Rendered:
    """A prompt as text and as token ids."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Heard:
    """A greedy answer.

    Attributes:
        ids: Its tokens, without the one that ended it.
        logprobs: Natural logarithm of each token's probability, as the server gave it; NaN where
            it gave none.
        text: The answer as a user sees it.
        ended: Whether it ended by itself, not at the limit.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    ended: bool


class Served(Protocol):
    """An exported model that answers."""

    def render(self, chat: Messages) -> Rendered:
        """Return a prompt as this server renders and tokenizes it."""

    def answer(self, chats: Sequence[Messages], max_new_tokens: int) -> list[Heard]:
        """Return greedy answers, in order."""
