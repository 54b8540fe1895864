"""Whether an endpoint answers, keeps to a JSON schema, and how fast it is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from generation.asking import Asking
from generation.outcome import Outcome
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, check_reachable
from workbench.records import as_messages, user_prompt

_SHORT = "Answer with one word: what colour is the sky on a clear day?"
_LONG = "Describe in about a hundred words how a bicycle stays upright."
# It must not ask for JSON: a server that ignores the schema shall show as one that does.
_SHAPED = "What do people ask on their first day in a gym? Give three questions."
_MAX_TOKENS = 400


@dataclass(frozen=True)
class Probe:
    """What was found out about one endpoint."""

    structured: bool
    """Whether it keeps to a JSON schema that is asked for."""
    latency: float
    """Seconds to a whole answer of about one word."""
    rate: float
    """Tokens a second in an answer of about a hundred words, as the server counts them."""


def probe(endpoint: Endpoint) -> Probe:
    """Ask an endpoint a few things, one after another.

    Raises:
        UserError: It cannot be reached, refuses the key, does not know the model, or gives no
            answer.
    """
    check_reachable(endpoint)
    return asyncio.run(_probe(endpoint))


async def _probe(endpoint: Endpoint) -> Probe:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key(),
        max_retries=0,
        timeout=endpoint.timeout,
    ) as client:
        refused: set[str] = set()

        async def ask(text: str, shape: str = "") -> tuple[Outcome, float]:
            body: dict[str, Any] = {
                "model": endpoint.model,
                "messages": as_messages(user_prompt(text)),
                "max_tokens": _MAX_TOKENS,
                "temperature": 0,
            }
            started = time.monotonic()
            asking = Asking(client, body, shape, attempts=3, backoff=endpoint.backoff)
            asking.refused = refused
            return await asking.outcome(), time.monotonic() - started

        # The first answer may have to wait for the server to load the model.
        first, _ = await ask(_SHORT)
        _check(endpoint, first)
        short, latency = await ask(_SHORT)
        _check(endpoint, short)
        long, seconds = await ask(_LONG)
        _check(endpoint, long)
        shaped, _ = await ask(_SHAPED, "questions")
        if shaped.reason != "wrong_shape":
            _check(endpoint, shaped)
    structured = shaped.status == "ok" and "response_format" not in refused
    return Probe(structured, latency, long.output_tokens / max(seconds, 1e-6))


def _check(endpoint: Endpoint, outcome: Outcome) -> None:
    """Raise for a request that brought no answer; one that was cut off or too long is one."""
    if outcome.status == "ok" or outcome.reason in ("cut_off", "too_long"):
        return
    if outcome.reason == "auth":
        raise endpoint.refused(outcome.http or 401)
    about = [f"HTTP {outcome.http}"] if outcome.http else []
    about += [outcome.detail] if outcome.detail else []
    said = f"{outcome.reason}: {', '.join(about)}" if about else outcome.reason
    raise UserError(
        f"model '{endpoint.model}' gives no answer ({said})",
        where=endpoint.base_url,
        fix="mend 'model' or 'base_url', or see the server's own log",
    )
