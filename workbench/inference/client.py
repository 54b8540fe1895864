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
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from workbench.console import console
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache, Answers
from workbench.inference.batch import LEDGER, BatchWire, Ledger
from workbench.inference.bounds import OVER_BUDGET, STOPPED, ClientBounds
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest, Exchange
from workbench.inference.wire import (
    HOPELESS,
    OnlineWire,
    check_reachable,
    no_answer_error,
    omitted_headers,
    open_client,
)
from workbench.text import counted

if TYPE_CHECKING:
    import openai

T = TypeVar("T")
FATAL = frozenset({"auth", "not_found", "quota", *HOPELESS})
"""Reasons that every further request would end with as well."""
_BREAKS = frozenset({"connection", "timeout", "server_error"})
_IN_A_ROW = 10
"""So many requests failing one after another, each after all of its tries, stop the client."""
LEARNT: dict[str, set[str]] = {}
"""Endpoint → fields that it turned out not to take: clients of one process learn them once."""
_KEPT = "run the same command again: {count} finished answers are kept"


def _print(line: str) -> None:
    console.print(f"  {line}", markup=False)


class EndpointClient:
    """Asks one endpoint from one event loop; use it as an asynchronous context manager.

    Args:
        endpoint: Who is asked.
        cache: Where answers are looked for and kept; without one equal requests are still made
            once.
        step: Name under which the cache counts what is paid.
        budget: Money that may be spent, in the currency of the endpoint's price.

        left_out: Fields that the server is known not to take.
        learnt: Called with each field that it turns out not to take; by default it is told, and
            left out by all clients of this process.
        tell: Called with a line that people should read; prints it by default.

    Attributes:
        bounds: Pace, budget, and what is left out.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        cache: Answers | None = None,
        step: str = "",
        budget: float | None = None,
        left_out: Iterable[str] = (),
        learnt: Callable[[str], object] | None = None,
        tell: Callable[[str], object] = _print,
    ) -> None:
        self.endpoint, self.step = endpoint, step
        if learnt is None:
            left_out = {*left_out, *LEARNT.get(endpoint.name, ())}
        self.bounds = ClientBounds(endpoint, budget, left_out, learnt or self._learnt)
        self._tell = tell
        self._cache = cache
        # A batch takes all that is asked.
        self._gate = asyncio.Semaphore(sys.maxsize if endpoint.batch else endpoint.concurrency)
        self._under_way: dict[str, asyncio.Future[Completion]] = {}
        self._in_a_row = 0
        self._openai: openai.AsyncOpenAI | None = None
        self._wire: OnlineWire | BatchWire | None = None

    def _learnt(self, name: str) -> None:
        LEARNT.setdefault(self.endpoint.name, set()).add(name)
        self._tell(left_out_line(self.endpoint, name))

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
        self._openai = open_client(self.endpoint)
        if self.endpoint.batch:
            folder = self._cache.folder if self._cache else None
            ledger = Ledger(folder / LEDGER if folder else None, self.endpoint.name)
            self._wire = BatchWire(self._openai, self.endpoint, ledger, self._tell)
        else:
            self._wire = OnlineWire(self._openai, self.endpoint)

    async def close(self) -> None:
        """Let go of the connections."""
        if isinstance(self._wire, BatchWire):
            await self._wire.close()
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
                model=self.endpoint.model,
                input=list(texts),
                encoding_format="float",
                extra_headers=omitted_headers(self.endpoint),
            )
        except OpenAIError as error:
            raise UserError(
                f"the endpoint gives no vectors ({self.endpoint.redacted(str(error))})",
                where=self.endpoint.base_url,
                fix="name a model that answers /embeddings",
            ) from None
        return [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]

    async def complete(self, request: EndpointRequest, step: str = "") -> Completion:
        """Ask until there is an answer, or no try left.

        ``step`` is the name under which the cache counts it, if not the client's own.
        """
        key = request.key(self.endpoint)
        if (running := self._under_way.get(key)) is not None:
            return (await running).free()
        future = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            completion = await self._known_or_asked(key, request, step or self.step)
        except BaseException:
            future.cancel()
            raise
        future.set_result(completion)
        return completion

    async def _known_or_asked(self, key: str, request: EndpointRequest, step: str) -> Completion:
        if self._cache is not None and (known := await self._cache.known(key)):
            return known
        async with self._gate:
            completion = await self._to_the_end(request)
        if self._cache is not None:
            await self._cache.keep(key, completion, step, self.endpoint.name)
        return completion

    async def _to_the_end(self, request: EndpointRequest) -> Completion:
        bounds = self.bounds
        if bounds.stopped:
            return Completion(end="failed", reason=STOPPED, detail=bounds.stopped)
        assert self._wire is not None, "a client is opened before it asks"
        completion = await Exchange(self._wire, self.endpoint, request, bounds).completion()
        self._in_a_row = self._in_a_row + 1 if completion.reason in _BREAKS else 0
        if completion.reason in FATAL or self._in_a_row >= _IN_A_ROW:
            bounds.stopped = bounds.stopped or completion.reason
        return completion


def left_out_line(endpoint: Endpoint, name: str) -> str:
    """Return in words that a server does not take a field."""
    how = {
        "max_tokens": "goes as max_completion_tokens",
        "system": "opens the first question",
    }.get(name, "is left out")
    return f"{endpoint.name} does not take '{name}': it {how} from now on"


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


def run(work: Coroutine[object, object, T]) -> T:
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
        if completion.reason in HOPELESS:
            raise no_answer_error(endpoint, completion.reason, completion.detail)
        if completion.reason == "not_found":
            raise UserError(
                f"does not know the model '{endpoint.model}' ({completion.detail or 'HTTP 404'})",
                where=endpoint.base_url,
                fix="mend 'model' or 'base_url' (it mostly ends in /v1)",
            )
        if completion.reason == "quota":
            words = f" ({completion.detail})" if completion.detail else ""
            what = f"the account has no quota left{words}"
            fix = f"top it up, then {_KEPT.format(count=count)}"
            raise UserError(what, where=endpoint.base_url, fix=fix)


def raise_if_hopeless(
    endpoint: Endpoint, completions: Sequence[Completion], earlier: Sequence[Completion] = ()
) -> None:
    """Raise if the endpoint refused or went down on the way, or if it never gave an answer.

    What happened to single requests is no reason: it stays with them. ``completions`` are of the
    requests that were made last, ``earlier`` of those before.

    Raises:
        UserError: Says what happened to how many requests, and how to go on.
    """
    raise_if_refused(endpoint, completions)
    count = sum(completion.final for completion in completions)
    failures = Counter(completion.reason for completion in completions if not completion.final)
    unmade = failures.pop(STOPPED, 0)
    kinds = ", ".join(f"{kind} {number}" for kind, number in failures.most_common())
    if any(one.reason == STOPPED and one.detail != OVER_BUDGET for one in completions):
        raise UserError(
            f"is down: stopped after {kinds}, with {counted(unmade, 'request')} not made",
            where=endpoint.base_url,
            fix=f"when it is up, {_KEPT.format(count=count)}",
        )
    if failures and not count and not any(one.final for one in earlier):
        words = next((one.detail for one in completions if one.detail), "")
        passes = failures.keys() <= _BREAKS | {"rate_limit"}
        raise UserError(
            f"all {sum(failures.values())} requests failed ({kinds}{words and f': {words}'})",
            where=endpoint.base_url,
            fix="start it or wait until it answers, then run the same command again"
            if passes
            else "set what it wants by extra_body or headers; `persona doctor` tries it",
        )
