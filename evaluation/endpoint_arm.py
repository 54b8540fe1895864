"""An arm that is served: asked over an OpenAI-compatible endpoint, several requests at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from evaluation.turns import Turn
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, check_reachable
from workbench.records import as_messages

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

    Not to be called from a running event loop.

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
    check_reachable(endpoint)
    failed = asyncio.run(_ask_all(endpoint, turns, told, max_new_tokens, temperature))
    if failed:
        why = ", ".join(f"{reason} {count}" for reason, count in failed.most_common())
        raise UserError(
            f"{failed.total()} conversations of arm '{turns[0].arm.name}' got no answer ({why})",
            where=endpoint.base_url,
            fix="run the same command again; answers already given are kept",
        )


async def _ask_all(
    endpoint: Endpoint,
    turns: Iterable[Turn],
    told: Told,
    max_new_tokens: int,
    temperature: float,
) -> Counter[str]:
    from openai import APIError, APIStatusError

    failed: Counter[str] = Counter()
    slots = asyncio.Semaphore(endpoint.concurrency)

    async def converse(turn: Turn | None) -> None:
        while turn is not None:
            try:
                async with slots:
                    text, tokens = await _say(client, endpoint, turn, max_new_tokens, temperature)
            except APIStatusError as error:
                if error.status_code in (401, 403):
                    raise endpoint.refused(error.status_code) from None
                failed[f"http_{error.status_code}"] += 1
                return
            except APIError as error:
                failed[type(error).__name__] += 1
                return
            if text is None:
                failed["no_text"] += 1
                return
            turn = told(turn, text, tokens)

    async with endpoint.client() as client:
        await asyncio.gather(*(converse(turn) for turn in turns))
    return failed


async def _say(
    client: Any, endpoint: Endpoint, turn: Turn, max_new_tokens: int, temperature: float
) -> tuple[str | None, int]:
    drawn: dict[str, Any] = {"seed": turn.draw % 2**31} if turn.draw else {}
    reply = await client.chat.completions.create(
        model=endpoint.model,
        messages=as_messages(turn.asked),
        max_tokens=max_new_tokens,
        temperature=temperature if turn.draw else 0.0,
        **drawn,
    )
    text = reply.choices[0].message.content if reply.choices else None
    tokens = reply.usage.completion_tokens if reply.usage else 0
    return (text.strip() if text is not None else None), tokens
