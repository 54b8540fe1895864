"""Distilabel's LLM for OpenAI-compatible endpoints, made safe: bounded, cached, accountable."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from distilabel.models.llms.base import AsyncLLM
from distilabel.models.llms.openai import OpenAILLM
from pydantic import PrivateAttr

from generation import events
from generation.asking import Asking
from generation.budget import Budget
from generation.cache import AnswerCache, Answers, request_key
from generation.jobs import Served
from generation.llms import as_output
from generation.outcome import Outcome
from generation.stops import FATAL, OVER_BUDGET, STOPPED
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, Price

if TYPE_CHECKING:
    from distilabel.typing import GenerateOutput

_BREAKS = frozenset({"connection", "timeout", "server_error", "rate_limit"})
_IN_A_ROW = 10
"""So many requests failing one after another, each after all of its tries, stop the job."""


class ServedLLM(OpenAILLM):  # type: ignore[misc]
    """``OpenAILLM`` that ends every request as ok, failed or filtered.

    In distilabel one failed request empties its whole batch; here it stays a failure of its own.
    Answers are kept in a file, so that a job that was killed pays for none of them twice. The key
    is read when the model is loaded, and is no attribute of it: steps are pickled and dumped.

    Attributes:
        api_key_env: Name of the environment variable of the key.
        api_key_file: File of the key.
        attempts: Tries of a request.
        backoff: Seconds before the second try, at most.
        concurrency: Requests under way at once, however large the batch.
        cache: File of the answers that were already paid for.
        step: Name under which that file counts what is paid.
        shape: Name of the JSON shape that is asked for, or empty for text.
        cut: Whether an answer that was cut off counts as one.
        price: Of a million tokens.
        budget: Money for all requests; needs a price.
        bookkeeper: Name of the Ray actor that keeps that file, where the LLM runs on a cluster.
    """

    api_key_env: str = ""
    api_key_file: str = ""
    timeout: float = 120.0
    attempts: int = 5
    backoff: float = 1.0
    concurrency: int = 8
    cache: str = ""
    step: str = ""
    shape: str = ""
    cut: bool = False
    price: Price | None = None
    budget: float | None = None
    bookkeeper: str = ""

    _cache: Answers | None = PrivateAttr(default=None)
    _under_way: dict[str, asyncio.Future[Outcome]] = PrivateAttr(default_factory=dict)
    _in_a_row: int = PrivateAttr(default=0)
    _stop: str = PrivateAttr(default="")
    _budget: Budget | None = PrivateAttr(default=None)
    _refused: set[str] = PrivateAttr(default_factory=set)

    @classmethod
    def of(cls, settings: Served) -> Self:
        """Return the LLM that a job asks for."""
        endpoint = settings.endpoint
        return cls(
            model=endpoint.model,
            base_url=endpoint.base_url,
            api_key=None,
            api_key_env=endpoint.api_key_env,
            api_key_file=str(endpoint.api_key_file or ""),
            timeout=endpoint.timeout,
            attempts=endpoint.attempts,
            backoff=endpoint.backoff,
            concurrency=endpoint.concurrency,
            cache=str(settings.cache),
            step=settings.step,
            shape=settings.shape,
            cut=settings.cut,
            price=endpoint.price,
            budget=settings.budget,
            bookkeeper=settings.bookkeeper,
            generation_kwargs={
                "temperature": settings.temperature,
                "max_new_tokens": settings.max_new_tokens,
                "seed": settings.seed,
            },
        )

    def load(self) -> None:
        """Open the client and the cache."""
        from openai import AsyncOpenAI

        AsyncLLM.load(self)
        # A line for every request, which distilabel's logging takes longer for than we for the
        # request; distilabel itself silences the client's module by its earlier name.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        # All modules of distilabel lie on this heap; requests must not wait for walks through it.
        gc.freeze()
        self._cache = self._answers()
        events.tell(worker=os.getpid())
        endpoint = Endpoint(
            base_url=self.base_url,
            model=self.model,
            api_key_env=self.api_key_env,
            api_key_file=Path(self.api_key_file) if self.api_key_file else None,
        )
        try:
            key = endpoint.api_key()
        except UserError as error:
            # On a cluster distilabel does not hand a reason back.
            events.tell(error=str(error), mendable=True)
            raise
        self._aclient = AsyncOpenAI(
            base_url=endpoint.base_url, api_key=key, max_retries=0, timeout=self.timeout
        )

    def _answers(self) -> Answers | None:
        if self.bookkeeper:
            from generation.cluster import RemoteAnswers

            return RemoteAnswers(self.bookkeeper)
        return AnswerCache(Path(self.cache)) if self.cache else None

    def unload(self) -> None:
        """Close the cache, and let go of what cannot be pickled."""
        if self._cache:
            self._cache.close()
        self._cache = None
        self._under_way, self._budget = {}, None
        super().unload()
        events.tell(worker=0)

    async def agenerate(
        self,
        input: Any,
        num_generations: int = 1,
        temperature: float = 0.7,
        max_new_tokens: int = 1024,
        seed: int = 0,
    ) -> GenerateOutput:
        """Answer one conversation.

        Args:
            input: A conversation in chat format.
            num_generations: Answers to it, each with a seed of its own.
            temperature: Of sampling.
            max_new_tokens: Most tokens of an answer.
            seed: Of the first answer.

        Returns:
            The texts that are ok, None for the others, and every :class:`Outcome`.
        """
        bodies = [
            {
                "model": self.model,
                "messages": input,
                "temperature": temperature,
                "max_tokens": max_new_tokens,
                "seed": seed + number,
            }
            for number in range(num_generations)
        ]
        if num_generations == 1:
            return as_output([await self._shared(bodies[0])])
        return as_output(await asyncio.gather(*(self._shared(body) for body in bodies)))

    async def _agenerate(
        self, inputs: list[Any], num_generations: int = 1, **kwargs: Any
    ) -> list[GenerateOutput]:
        """Answer a batch, ``concurrency`` at a time."""
        gate = asyncio.Semaphore(self.concurrency)
        if self.price and self.budget is not None and self._budget is None:
            self._budget = Budget(self.price, self.budget)

        tally = events.Tally()

        async def one(chat: Any) -> GenerateOutput:
            async with gate:
                output = await self.agenerate(chat, num_generations, **kwargs)
            failed = int(None in output["generations"])
            tally.add(done=1, failed=failed, paid=self._paid(output["statistics"]))
            return output

        try:
            return await asyncio.gather(*(one(chat) for chat in inputs))
        finally:
            tally.tell()

    def _paid(self, counts: dict[str, list[int]]) -> float:
        tokens = sum(counts["input_tokens"]), sum(counts["output_tokens"])
        return self.price.of(*tokens) if self.price else 0.0

    async def _shared(self, body: dict[str, Any]) -> Outcome:
        """Answer equal requests by one request, and known ones from the cache."""
        key = request_key(str(self.base_url), {**body, "shape": self.shape})
        if (running := self._under_way.get(key)) is not None:
            return (await running).free()
        self._under_way[key] = future = asyncio.get_running_loop().create_future()
        outcome = await self._cache.known(key) if self._cache else None
        if outcome is None:
            outcome = await self._asked(body)
            if self._cache:
                await self._cache.keep(key, outcome, self.step)
        future.set_result(outcome)
        return outcome

    async def _asked(self, body: dict[str, Any]) -> Outcome:
        if self._budget is None:
            return await self._to_the_end(body)
        worst = self._budget.worst(body, self.attempts)
        if not await self._budget.reserve(worst):
            self._stop = self._stop or OVER_BUDGET
            return await self._to_the_end(body)
        outcome = await self._to_the_end(body)
        paid = self._budget.price.of(outcome.input_tokens, outcome.output_tokens)
        await self._budget.settle(worst, paid)
        return outcome

    async def _to_the_end(self, body: dict[str, Any]) -> Outcome:
        if self._stop:
            return Outcome(status="failed", reason=STOPPED, detail=self._stop)
        asking = Asking(
            self._aclient,
            body,
            self.shape,
            self.attempts,
            self.backoff,
            cut=self.cut,
            refused=self._refused,
        )
        outcome = await asking.outcome()
        self._in_a_row = self._in_a_row + 1 if outcome.reason in _BREAKS else 0
        if outcome.reason in FATAL or self._in_a_row >= _IN_A_ROW:
            self._stop = self._stop or outcome.reason
        return outcome
