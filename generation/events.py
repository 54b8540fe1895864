"""News from a pipeline's processes to the command that waits for it: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

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
