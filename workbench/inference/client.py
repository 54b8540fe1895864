"""The one client of OpenAI-compatible endpoints: teacher, student, judge, served arm and doctor.

In goes an :class:`~workbench.inference.exchange.EndpointRequest`, out comes a
:class:`~workbench.inference.completion.Completion`, whatever happens on the way. The rules, the
same for everybody:

- tries: what may pass (429, 5xx, broken connections, bodies and JSON of another shape) is tried
  again, ``attempts`` times in all, after ``Retry-After`` or a growing wait;
- fields: what a server refuses is left out, and from then on not sent;
- bounds: ``concurrency`` requests at once, and no request that the budget might not pay for;
- abort conditions: an endpoint that refuses the key or the model, has no quota left, or fails ten
  times in a row is asked nothing more;
- answers that were paid for are kept, and equal requests are made once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache, Answers
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Price, check_reachable
from workbench.inference.exchange import EndpointRequest, Exchange
from workbench.records import as_messages

if TYPE_CHECKING:
    import openai

T = TypeVar("T")
STOPPED = "stopped"
"""Reason of the requests that were not made after an abort condition."""
OVER_BUDGET = "budget"
"""Detail of the requests that were not made since the budget was used up."""
_FATAL = frozenset({"auth", "not_found", "quota"})
"""Reasons that every further request would end with as well."""
_BREAKS = frozenset({"connection", "timeout", "server_error", "rate_limit"})
_IN_A_ROW = 10
"""So many requests failing one after another, each after all of its tries, stop the client."""
_KEPT = "run the same command again: {count} finished answers are kept"


class Budget:
    """Money for the requests of one client, reserved before each and settled after it.

    What the endpoint counts is what is settled; a try that ran out of time tells no tokens, so a
    provider that bills it bills beyond this budget.

    Args:
        price: Of tokens.
        limit: Money in all, in the price's currency.
    """

    def __init__(self, price: Price, limit: float) -> None:
        self.price, self.limit = price, limit
        self.spent = self.reserved = 0.0
        self._change = asyncio.Condition()

    def worst(self, request: EndpointRequest, attempts: int) -> float:
        """Return the most that a request can cost: every try with its longest answer."""
        # Cautious: tokens hold four bytes in English and about three in Korean.
        text = json.dumps(as_messages(request.messages), ensure_ascii=False)
        return attempts * self.price.of(len(text.encode()) // 2, request.max_tokens)

    async def reserve(self, money: float) -> bool:
        """Reserve money; wait while requests under way may still leave some over.

        Returns:
            Whether it was reserved; if not, the budget is used up.
        """
        async with self._change:
            while self.spent + self.reserved + money > self.limit:
                if not self.reserved:
                    return False
                await self._change.wait()
            self.reserved += money
            return True

    async def settle(self, reserved: float, paid: float) -> None:
        """Put what was paid in place of what was reserved."""
        async with self._change:
            # Sums of floats drift; nothing reserved must be exactly nothing.
            self.reserved = left if (left := self.reserved - reserved) > 1e-12 else 0.0
            self.spent += paid
            self._change.notify_all()


class EndpointClient:
    """Asks one endpoint from one event loop; use it as an asynchronous context manager.

    Args:
        endpoint: Who is asked.
        cache: Where answers are looked for and kept; without one equal requests are still made
            once.
        step: Name under which the cache counts what is paid.
        budget: Money that may be spent, in the currency of the endpoint's price.

    Attributes:
        left_out: Fields of a request that the server was found not to take.
        stopped: Reason of the abort condition that was met; empty while requests are made.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        cache: Answers | None = None,
        step: str = "",
        budget: float | None = None,
    ) -> None:
        self.endpoint, self.step = endpoint, step
        self.left_out: set[str] = set()
        self.stopped = ""
        self._cache = cache
        self._budget = (
            Budget(endpoint.price, budget) if endpoint.price and budget is not None else None
        )
        self._gate = asyncio.Semaphore(endpoint.concurrency)
        self._under_way: dict[str, asyncio.Future[Completion]] = {}
        self._in_a_row = 0
        self._openai: openai.AsyncOpenAI | None = None

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def open(self) -> None:
        """Make the connections' pool.

        Raises:
            UserError: The key cannot be had, or a proxy needs a package that is not there.
        """
        self._openai = _openai_client(self.endpoint)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._openai is not None:
            await self._openai.close()

    async def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vector of each text, asked for in one request.

        Raises:
            UserError: The endpoint gave none after all tries.
        """
        from openai import OpenAIError

        assert self._openai is not None, "a client is opened before it asks"
        asker = self._openai.with_options(max_retries=self.endpoint.attempts - 1)
        try:
            answer = await asker.embeddings.create(
                model=self.endpoint.model, input=list(texts), encoding_format="float"
            )
        except OpenAIError as error:
            raise UserError(
                f"the endpoint gives no vectors ({error})",
                where=self.endpoint.base_url,
                fix="name a model that answers /embeddings",
            ) from None
        return [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]

    async def complete(self, request: EndpointRequest) -> Completion:
        """Ask until there is an answer, or no try left."""
        key = request.key(self.endpoint)
        if (running := self._under_way.get(key)) is not None:
            return (await running).free()
        future = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            completion = await self._known_or_asked(key, request)
        except BaseException:
            future.cancel()
            raise
        future.set_result(completion)
        return completion

    async def _known_or_asked(self, key: str, request: EndpointRequest) -> Completion:
        if self._cache is not None and (known := await self._cache.known(key)):
            return known
        async with self._gate:
            completion = await self._within_budget(request)
        if self._cache is not None:
            await self._cache.keep(key, completion, self.step, self.endpoint.name)
        return completion

    async def _within_budget(self, request: EndpointRequest) -> Completion:
        if self._budget is None:
            return await self._to_the_end(request)
        worst = self._budget.worst(request, self.endpoint.attempts)
        if not await self._budget.reserve(worst):
            self.stopped = self.stopped or OVER_BUDGET
            return await self._to_the_end(request)
        completion = await self._to_the_end(request)
        paid = self._budget.price.of(completion.input_tokens, completion.output_tokens)
        await self._budget.settle(worst, paid)
        return completion

    async def _to_the_end(self, request: EndpointRequest) -> Completion:
        if self.stopped:
            return Completion(end="failed", reason=STOPPED, detail=self.stopped)
        assert self._openai is not None, "a client is opened before it asks"
        exchange = Exchange(self._openai, self.endpoint, request, self.left_out)
        completion = await exchange.completion()
        self._in_a_row = self._in_a_row + 1 if completion.reason in _BREAKS else 0
        if completion.reason in _FATAL or self._in_a_row >= _IN_A_ROW:
            self.stopped = self.stopped or completion.reason
        return completion


def _openai_client(endpoint: Endpoint) -> openai.AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    try:
        # What the environment says of proxies is not meant for this machine's own loopback.
        pool = DefaultAsyncHttpxClient(trust_env=not endpoint.loopback)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"the proxy that the environment names cannot be used ({error})",
            where=endpoint.base_url,
            fix="unset ALL_PROXY, HTTPS_PROXY or HTTP_PROXY, or name the host in NO_PROXY",
        ) from None
    return AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key(),
        max_retries=0,  # retries are ours, since a body of another shape needs them as well
        timeout=endpoint.timeout,
        http_client=pool,
    )


Put = Callable[[EndpointClient, EndpointRequest], Awaitable[Completion]]


def complete_all(
    endpoint: Endpoint,
    requests: Sequence[EndpointRequest],
    *,
    cache: Path | None = None,
    step: str = "",
    advance: Callable[[], object] = lambda: None,
    put: Put = EndpointClient.complete,
) -> list[Completion]:
    """Return the completion of each request, in their order.

    Args:
        endpoint: Who is asked.
        requests: What is asked.
        cache: File of answers; None keeps none.
        step: Name under which the file counts what is paid.
        advance: Called once for every request that is done with.
        put: How a request is put to the client.

    Raises:
        UserError: Nothing answers there, or the endpoint refuses the key or the model.
    """

    async def one(client: EndpointClient, request: EndpointRequest) -> Completion:
        completion = await put(client, request)
        advance()
        return completion

    async def ask() -> list[Completion]:
        async with EndpointClient(endpoint, cache=answers, step=step) as client:
            return list(await asyncio.gather(*(one(client, request) for request in requests)))

    with AnswerCache(cache) as answers:
        if any(answers.get(request.key(endpoint)) is None for request in requests):
            check_reachable(endpoint)
        completions = run(ask())
    raise_if_refused(endpoint, completions)
    return completions


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns; from a notebook, too, whose own loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as other:
        return other.submit(asyncio.run, work).result()


def raise_if_refused(endpoint: Endpoint, completions: Sequence[Completion]) -> None:
    """Raise if the endpoint refused the key or the model, or has no quota left.

    Raises:
        UserError: Says which, and how to go on.
    """
    count = sum(completion.final for completion in completions)
    for completion in completions:
        if completion.reason == "auth":
            raise endpoint.refused(completion.http or 401)
        if completion.reason == "not_found":
            raise UserError(
                f"does not know the model '{endpoint.model}' ({completion.detail or 'HTTP 404'})",
                where=endpoint.base_url,
                fix="mend 'model' or 'base_url' (it mostly ends in /v1)",
            )
        if completion.reason == "quota":
            fix = f"top it up, then {_KEPT.format(count=count)}"
            raise UserError("the account has no quota left", where=endpoint.base_url, fix=fix)


def raise_if_hopeless(endpoint: Endpoint, completions: Sequence[Completion]) -> None:
    """Raise if the endpoint refused or went down on the way, or if no request got an answer.

    Raises:
        UserError: Says what happened to how many requests, and how to go on.
    """
    raise_if_refused(endpoint, completions)
    count = sum(completion.final for completion in completions)
    failures = Counter(completion.reason for completion in completions if not completion.final)
    unmade = failures.pop(STOPPED, 0)
    if any(one.reason == STOPPED and one.detail == OVER_BUDGET for one in completions):
        raise UserError(
            f"stopped at the budget, with {unmade} requests not made",
            where=endpoint.base_url,
            fix=f"raise the budget, then {_KEPT.format(count=count)}",
        )
    kinds = ", ".join(f"{kind} {number}" for kind, number in failures.most_common())
    if unmade:
        raise UserError(
            f"is down: stopped after {kinds}, with {unmade} requests not made",
            where=endpoint.base_url,
            fix=f"when it is up, {_KEPT.format(count=count)}",
        )
    if completions and not count:
        raise UserError(
            f"all {len(completions)} requests failed ({kinds})",
            where=endpoint.base_url,
            fix="mend the endpoint, then run the same command again",
        )
