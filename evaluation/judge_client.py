"""Questions to a judge through ragas' metrics, many at once; a failure stays with its question."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from evaluation.judge_cache import JudgeCache
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, Paid, check_reachable

if TYPE_CHECKING:
    from ragas.metrics import DiscreteMetric

VOTE_TEMPERATURE = 0.7
"""Of a judge that is asked more than once: at 0 its votes would all be the same one."""


@dataclass(frozen=True)
class Ask:
    """A prompt, and the words that may come back."""

    prompt: str
    allowed: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """One of the allowed words, or the kind of failure in its place."""

    word: str | None
    failure: str = ""


def ask_all(
    endpoint: Endpoint,
    asks: Sequence[Ask],
    advance: Callable[[], None],
    *,
    votes: int = 1,
    cache: Path | None = None,
) -> list[list[Said]]:
    """Return ``votes`` answers to each prompt, in the prompts' order.

    Args:
        endpoint: Who judges.
        asks: What is asked.
        advance: Called once for every vote that is done with, kept ones too.
        votes: How often each prompt is asked; more than once with a temperature.
        cache: File of answers that were given before; each new one is added as it comes.

    Raises:
        UserError: Nothing answers there, or the endpoint refuses the key or the model.
    """
    if not asks:
        return []
    kept = JudgeCache(cache, endpoint, VOTE_TEMPERATURE if votes > 1 else 0.0)
    wanted = [(ask, vote) for ask in asks for vote in range(votes)]
    if any(kept.get(ask, vote) is None for ask, vote in wanted):
        check_reachable(endpoint)
    said = asyncio.run(_ask_all(endpoint, wanted, kept, advance))
    return [said[start : start + votes] for start in range(0, len(said), votes)]


async def _ask_all(
    endpoint: Endpoint,
    wanted: Sequence[tuple[Ask, int]],
    kept: JudgeCache,
    advance: Callable[[], None],
) -> list[Said]:
    # ragas reads this when it is imported, and takes no other value for a yes.
    os.environ["RAGAS_DO_NOT_TRACK"] = "true"
    # It would log every failed try; failures are counted by kind instead.
    logging.getLogger("instructor").setLevel(logging.CRITICAL)
    from ragas.llms import llm_factory
    from ragas.metrics import DiscreteMetric

    # The prompt comes in as a value, so that braces in it are no fields of a template.
    metrics = {
        ask.allowed: DiscreteMetric(name="verdict", prompt="{ask}", allowed_values=[*ask.allowed])
        for ask, _ in wanted
    }
    gate = asyncio.Semaphore(endpoint.concurrency)
    # A client belongs to the event loop that it was first used in, so each call makes its own.
    async with endpoint.client() as client:
        # ragas hands these on to instructor, whose retries concern malformed answers alone.
        llm = llm_factory(
            endpoint.model,
            client=client,
            temperature=kept.temperature,
            # ragas' own 0.1 would leave a temperature nothing to choose from.
            top_p=1.0,
            max_retries=endpoint.attempts - 1,
        )
        meter = ContextVar[list[Paid]]("meter")
        # ragas returns no usage. instructor tells of every reply, malformed ones included.
        llm.client.on("completion:response", lambda reply: meter.get().append(_took(reply)))
        llm.client.on("completion:error", lambda *_, **__: meter.get().append(Paid(1)))

        async def one(ask: Ask, vote: int) -> Said:
            word = kept.get(ask, vote)
            if word is None:
                async with gate:
                    # Each of these runs in a task, and so in a context, of its own.
                    meter.set([])
                    said = await _ask(endpoint, metrics[ask.allowed], llm, ask)
                kept.put(ask, vote, said.word, Paid.total(meter.get()))
            else:
                said = Said(word)
            advance()
            return said

        return list(await asyncio.gather(*(one(ask, vote) for ask, vote in wanted)))


def _took(reply: Any) -> Paid:
    """Return what a reply took, by the server's own count; no tokens where it does not tell."""
    usage = getattr(reply, "usage", None)
    spent = (getattr(usage, name, 0) or 0 for name in ("prompt_tokens", "completion_tokens"))
    return Paid(1, *spent)


async def _ask(endpoint: Endpoint, metric: DiscreteMetric, llm: Any, ask: Ask) -> Said:
    from instructor.core.exceptions import InstructorError
    from openai import OpenAIError

    try:
        result = await metric.ascore(llm=llm, ask=ask.prompt)
    except (OpenAIError, InstructorError, ValidationError, json.JSONDecodeError) as error:
        return Said(None, _failure(endpoint, error))
    # ragas does not hold every endpoint to the allowed values.
    word = str(result.value).strip().lower()
    return Said(word) if word in ask.allowed else Said(None, "judge_out_of_range")


def _failure(endpoint: Endpoint, error: BaseException) -> str:
    """Return the kind of failure; raise where every other question would fail alike."""
    import openai

    for cause in _causes(error):
        if isinstance(cause, openai.APITimeoutError):
            return "judge_timeout"
        if isinstance(cause, openai.APIConnectionError):
            return "judge_unreachable"
        if isinstance(cause, openai.AuthenticationError | openai.PermissionDeniedError):
            raise endpoint.refused(cause.status_code) from None
        if isinstance(cause, openai.NotFoundError):
            raise UserError(
                f"the judge's model or address is unknown there ({endpoint.model}, HTTP 404)",
                where=endpoint.base_url,
                fix="check model and base_url (it mostly ends in /v1)",
            ) from None
        if isinstance(cause, openai.APIStatusError):
            return f"judge_http_{cause.status_code}"
        if _refused(cause):
            return "judge_refused"
        if isinstance(cause, ValidationError):
            kinds = {problem["type"] for problem in cause.errors()}
            return "judge_out_of_range" if kinds == {"literal_error"} else "judge_malformed"
    return "judge_malformed"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refused(error: BaseException) -> bool:
    """Return whether the last completion that instructor saw was a refusal."""
    choices = getattr(getattr(error, "last_completion", None), "choices", None) or [None]
    return bool(getattr(getattr(choices[0], "message", None), "refusal", None))
