"""What was answered before, by what was asked: a JSONL file that grows by a line an answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from workbench.store import cannot_write


class KeptLines:
    """Answers that outlive a kill: each is on disk as soon as it is put.

    Args:
        path: The file; None to keep answers in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_bytes().splitlines():
                self._remember(line)

    def _remember(self, line: bytes) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            return  # the line that a kill cut short: it is asked again
        self._known[found["key"]] = found

    def get(self, asked: Any) -> dict[str, Any] | None:
        """Return what was put for the same JSON values, or None."""
        return self._known.get(_key(asked))

    def lines(self) -> list[dict[str, Any]]:
        """Return what was put, the last of it for each asked."""
        return list(self._known.values())

    def put(self, asked: Any, **said: Any) -> None:
        """Keep an answer at once.

        Raises:
            UserError: The disk is full.
        """
        line = {"key": _key(asked), **said}
        self._known[line["key"]] = line
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A line of its own, whatever a kill has left of the one before.
            with self.path.open("ab") as file:
                file.write(b"\n" + json.dumps(line, ensure_ascii=False).encode())
        except OSError as error:
            raise cannot_write(self.path, error) from None


def _key(asked: Any) -> str:
    text = json.dumps(asked, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
