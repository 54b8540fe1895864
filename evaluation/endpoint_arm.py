"""An arm that is served: its turns are asked over an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from evaluation.turns import Turn
from workbench.inference.endpoint import Endpoint
from workbench.inference.engines.chats import ChatAnswer, ChatRequest
from workbench.inference.engines.served import ServedEngine

Told = Callable[[Turn, str, int], Turn | None]
"""Takes a turn's text and tokens, and returns the conversation's next turn."""


def ask_endpoint(
    endpoint: Endpoint,
    turns: Sequence[Turn],
    told: Told,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
) -> None:
    """Ask every turn and those that follow; each answer is told as soon as it is there.

    Args:
        endpoint: Who answers.
        turns: What is asked at first.
        told: Takes the answers.
        max_new_tokens: Where an answer is cut.
        temperature: Of turns with a seed; others are asked for at 0.

    Raises:
        UserError: Nothing answers there, it refuses the key or the model, or some turns got no
            answer; those that did have been told.
    """

    def request(turn: Turn) -> ChatRequest:
        return ChatRequest(turn.asked, turn.draw, turn)

    def on_answer(asked: ChatRequest, answer: ChatAnswer | None) -> Iterable[ChatRequest]:
        following = told(asked.tag, answer.text, answer.tokens) if answer else None
        return [request(following)] if following else []

    ServedEngine(endpoint, turns[0].arm.name).answer(
        [request(turn) for turn in turns],
        on_answer,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
    )
