"""A job's money: nothing is asked that could not be paid for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from workbench.inference.endpoint import Price


class Budget:
    """Money for the requests of one job, reserved before each and settled after it.

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

    def worst(self, body: dict[str, Any], attempts: int) -> float:
        """Return the most that a request can cost: every try with its longest answer."""
        # Cautious: tokens hold four bytes in English and about three in Korean.
        asked = len(json.dumps(body["messages"], ensure_ascii=False).encode()) // 2
        return attempts * self.price.of(asked, body["max_tokens"])

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
