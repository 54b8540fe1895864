"""What bounds a client's requests: money, and the pace that a server bears.

:mod:`workbench.inference.client` makes one of each, :mod:`workbench.inference.exchange` asks them
before every try and tells them what it took.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping

from workbench.inference.endpoint import Endpoint, Price
from workbench.inference.refusals import Body

STOPPED = "stopped"
"""Reason of the requests that were not made after an abort condition."""
OVER_BUDGET = "budget"
"""Detail of the requests that were not made since the budget was used up."""
_MINUTE = 60.0
_LEAST_STEP = 0.05
"""Seconds between two requests after the first time that a server limits them."""
_EASE = 0.8
"""By how much that grows shorter with every reply."""
LONGEST_WAIT = 60.0
"""Seconds that a retry waits at most where a server does not say how long."""
_MARGIN = 32
"""Tokens that a chat template may put around the messages, a message."""


class Budget:
    """Money for the tries of one client, reserved before each and settled after it.

    The limit is in the price's currency.
    """

    def __init__(self, price: Price, limit: float) -> None:
        self.price, self.limit = price, limit
        self.spent = self.reserved = 0.0
        self.longest = 0
        """Tokens of the longest answer so far: reasoning may go beyond what was asked for."""
        self._change = asyncio.Condition()

    def worst(self, body: Body, max_tokens: int) -> float:
        """Return the most that one try can cost: a token for each byte, and its longest answer."""
        text = json.dumps(body["messages"], ensure_ascii=False)
        asked = len(text.encode()) + _MARGIN * len(body["messages"])
        return self.price.of(asked, max(max_tokens, self.longest))

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


class Pace:
    """When the next request may go: by the limits that are set, and by those that were met.

    Requests and tokens are spread evenly. Where a server limits them, the time between two doubles,
    and shrinks again with every reply.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        requests, self._tokens = endpoint.requests_per_minute, endpoint.tokens_per_minute
        if endpoint.batch:
            requests = self._tokens = None  # a batch goes at its own pace
        self._set = _MINUTE / requests if requests else 0.0
        self._met = self._next = self._slowed = 0.0
        self.progress = time.monotonic()
        """When a request last got through."""
        self.passed = 0
        """Requests that got through."""
        self.limited = 0
        """Replies that said that there were too many."""

    @property
    def step(self) -> float:
        """Seconds between two requests."""
        return max(self._set, self._met)

    async def turn(self, tokens: int) -> None:
        """Wait until a request of about so many tokens may go."""
        while (wait := self._next - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        cost = self._token_seconds(tokens)
        self._next = max(self._next, time.monotonic()) + max(self.step, cost)

    def took(self, expected: int, tokens: int) -> None:
        """Take note of a request that got through, and of the tokens that it really took."""
        self.passed += 1
        self.progress = time.monotonic()
        self._next += self._token_seconds(tokens) - self._token_seconds(expected)
        self._met = self._met * _EASE if self._met > _LEAST_STEP / 2 else 0.0

    def slow_down(self, after: float | None, sent: float) -> None:
        """Take note of a limit: nobody asks for ``after`` seconds, then fewer at a time.

        ``sent`` is when the request left that the server did not let through.
        """
        self.limited += 1
        now = time.monotonic()
        # One step for each burst, however many of its requests were too many.
        if sent > self._slowed:
            most = LONGEST_WAIT if after is None else after
            self._met = min(most, max(_LEAST_STEP, 2 * self._met))
            self._slowed = now
        self._next = max(self._next, now + (self._met if after is None else after))

    def _token_seconds(self, tokens: int) -> float:
        return _MINUTE * tokens / self._tokens if self._tokens else 0.0


class ClientBounds:
    """Everything that a client's requests share.

    Args:
        endpoint: Who is asked.
        budget: Money that may be spent, in the currency of the endpoint's price.
        left_out: Fields that the server is known not to take.
        learnt: Called with each field that it turns out not to take.

    Attributes:
        stopped: Reason of the abort condition that was met; empty while requests are made.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        budget: float | None,
        left_out: Iterable[str] = (),
        learnt: Callable[[str], object] = lambda name: None,
    ) -> None:
        self.endpoint, self.pace = endpoint, Pace(endpoint)
        self.left_out, self._learnt = set(left_out), learnt
        self.stopped = ""
        self.headers: Mapping[str, str] = {}
        """Of the last reply."""
        self.in_vain: set[str] = set()
        """What the server says of requests that are wrong with any of their fields."""
        self.budget = (
            Budget(endpoint.rate, budget) if endpoint.rate and budget is not None else None
        )

    def learn(self, name: str) -> None:
        """Leave a field out from now on."""
        self.left_out.add(name)
        self._learnt(name)

    async def admit(self, body: Body, max_tokens: int) -> float | None:
        """Reserve the money of one try; None where the budget does not hold it."""
        if self.budget is None:
            return 0.0
        worst = self.budget.worst(body, max_tokens)
        if await self.budget.reserve(worst):
            return worst
        self.stopped = self.stopped or OVER_BUDGET
        return None

    async def settle(self, reserved: float, input_tokens: int, output_tokens: int) -> None:
        """Put what a try took in place of what was reserved for it."""
        if self.budget is not None:
            self.budget.longest = max(self.budget.longest, output_tokens)
            await self.budget.settle(reserved, self.budget.price.of(input_tokens, output_tokens))

    async def forfeit(self, reserved: float) -> None:
        """Count what was reserved as paid: nobody tells what the try took."""
        if self.budget is not None:
            await self.budget.settle(reserved, reserved)
