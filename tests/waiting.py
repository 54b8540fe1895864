"""How tests wait for processes, servers and pages: until it is so, within one generous bound."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds until a test gives up. It measures nothing: what is waited for takes a few seconds here,
and has to fit in on a machine several times slower, beside another process of tests."""
PAGE_PATIENCE = PATIENCE * 1000
"""The same in milliseconds, for a browser's page."""
STUCK = 30.0
"""Seconds that no page takes to open, however slow the machine, unless it waits for an answer to
packets that are dropped: TCP tries that for two minutes."""
_LOOK_SECONDS = 0.02


def waited(
    condition: Callable[[], object], *, unless: Callable[[], object] = lambda: False
) -> None:
    """Wait until a condition holds.

    Args:
        condition: Looked at every 20 ms.
        unless: What makes waiting vain, such as the end of the process that is waited for.

    Raises:
        AssertionError: It does not hold after :data:`PATIENCE` seconds, or can't any more.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        assert not unless(), "what is waited for has ended"
        assert time.monotonic() < end, f"it did not come true in {PATIENCE:.0f} s"
        time.sleep(_LOOK_SECONDS)
