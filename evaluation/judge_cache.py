"""What the judge said before, to what and at which temperature, and what it took to get it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.kept import KeptLines
from workbench.inference.endpoint import Endpoint, Paid

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
        return str(found["word"]) if found and found["word"] is not None else None

    def put(self, ask: Ask, vote: int, word: str | None, paid: Paid) -> None:
        """Keep an answer and what it took.

        Of a failure, which has no word, only what it took is kept: another run shall try again.
        """
        asked = self._asked(ask, vote)
        took = Paid.total([paid, _paid(self._kept.get(asked) or {})])
        self._kept.put(asked, word=word, judge=self._who[:2], paid=took)

    def _asked(self, ask: Ask, vote: int) -> list[Any]:
        return [*self._who, ask.prompt, ask.allowed, vote]


def judge_paid(path: Path, endpoint: Endpoint) -> Paid:
    """Return what this judge took for a file of answers, over every run that used the file."""
    who = [endpoint.base_url, endpoint.model]
    lines = KeptLines(path).lines()
    return Paid.total(_paid(line) for line in lines if line.get("judge") == who)


def _paid(line: dict[str, Any]) -> Paid:
    return Paid(*line.get("paid", ()))
