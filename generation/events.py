"""News from a pipeline's processes to the command that waits for it: one JSON object a line."""

from __future__ import annotations

import json
import os
from typing import Any

_pipe: int | None = None


def send_to(descriptor: int) -> None:
    """Send the news of this process, and of all that it forks, to an open file descriptor."""
    global _pipe
    _pipe = descriptor


def tell(**news: Any) -> None:
    """Send news; without a listener, as in anyone's own pipeline, it is dropped."""
    if _pipe is not None:
        # One write below the pipe's atomic size, so that processes do not mix their lines.
        os.write(_pipe, json.dumps(news).encode()[:4000] + b"\n")
