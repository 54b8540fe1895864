"""News from a pipeline's processes to the command that waits for it: one JSON object a line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

_EVERY = 0.1
"""Seconds between two messages of a tally."""
_pipe: int | None = None
_carrier: Callable[[dict[str, Any]], object] | None = None


def send_to(descriptor: int) -> None:
    """Send the news of this process, and of all that it forks, to an open file descriptor."""
    global _pipe
    _pipe = descriptor


def send_by(carrier: Callable[[dict[str, Any]], object]) -> None:
    """Send the news of this process by a function: no pipe reaches it."""
    global _carrier
    _carrier = carrier


def tell(**news: Any) -> None:
    """Send news; without a listener, as in anyone's own pipeline, it is dropped."""
    if _carrier is not None:
        _carrier(news)
    elif _pipe is not None:
        # One write below the pipe's atomic size, so that processes do not mix their lines.
        os.write(_pipe, json.dumps(news).encode()[:4000] + b"\n")


class Tally:
    """Counts that are told now and then, as a listener that wakes for each of them costs time."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}
        self._told = time.monotonic()

    def add(self, **counts: float) -> None:
        """Count, and tell what came together since the last time if that is a while ago."""
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
        if time.monotonic() - self._told >= _EVERY:
            self.tell()

    def tell(self) -> None:
        """Tell what came together."""
        if self._counts:
            tell(**self._counts)
        self._counts, self._told = {}, time.monotonic()
