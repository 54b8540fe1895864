"""What the judge said before: to what, and at which temperature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.kept import KeptLines
from workbench.endpoint import Endpoint

if TYPE_CHECKING:
    from evaluation.judge_client import Ask


class JudgeCache:
    """Answers by what was asked, of whom and at which temperature; a kill loses none.

    Args:
        path: The file; None to keep answers in memory alone.
        endpoint: Who is asked.
        temperature: How it decodes.
    """

    def __init__(self, path: Path | None, endpoint: Endpoint, temperature: float) -> None:
        self.temperature = temperature
        self._who = [endpoint.base_url, endpoint.model, temperature]
        self._kept = KeptLines(path)

    def get(self, ask: Ask, vote: int) -> str | None:
        """Return what was said to a prompt's vote of that number, or None."""
        found = self._kept.get(self._asked(ask, vote))
        return str(found["word"]) if found else None

    def put(self, ask: Ask, vote: int, word: str) -> None:
        """Keep an answer; failures are not kept, another run shall try again."""
        self._kept.put(self._asked(ask, vote), word=word)

    def _asked(self, ask: Ask, vote: int) -> list[Any]:
        return [*self._who, ask.prompt, ask.allowed, vote]
