"""Answers that were given before: by whom, how, and to what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation.arms import fingerprint
from evaluation.kept import KeptLines
from evaluation.turns import Turn
from workbench.records import as_messages


class AnswerCache:
    """Answers by what was asked, of whom and how it was decoded; a kill loses none.

    Args:
        path: The file, or None to keep nothing.
        how: Everything else that decides an answer, such as where it is cut; JSON values.
    """

    def __init__(self, path: Path | None, how: dict[str, Any]) -> None:
        self._kept, self._how = KeptLines(path), how
        self._who: dict[str, list[str]] = {}

    def get(self, turn: Turn, model: Path) -> tuple[str, int] | None:
        """Return the text and the tokens of the answer to a turn, or None."""
        found = self._kept.get(self._asked(turn, model)) if self._kept.path else None
        return (found["text"], found["tokens"]) if found else None

    def put(self, turn: Turn, model: Path, text: str, tokens: int) -> None:
        """Keep an answer at once.

        Raises:
            UserError: The disk is full.
        """
        if self._kept.path:
            self._kept.put(self._asked(turn, model), text=text, tokens=tokens)

    def _asked(self, turn: Turn, model: Path) -> list[Any]:
        if turn.arm.name not in self._who:
            self._who[turn.arm.name] = fingerprint(turn.arm, model)
        return [self._who[turn.arm.name], self._how, turn.draw, as_messages(turn.asked)]
