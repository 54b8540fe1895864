"""Answers that were given before, in a JSONL file that grows by a line with every answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from evaluation.arms import Arm
from evaluation.turns import Turn
from workbench.records import as_messages
from workbench.store import cannot_write, file_hash


class AnswerCache:
    """Answers by what was asked, of whom and how it was decoded; a kill loses none.

    Args:
        path: The file, or None to keep nothing.
        how: Everything else that decides an answer, such as where it is cut; JSON values.
    """

    def __init__(self, path: Path | None, how: dict[str, Any]) -> None:
        self._path, self._how = path, how
        self._known: dict[str, tuple[str, int]] = {}
        self._who: dict[str, list[str]] = {}
        if path is not None and path.exists():
            for line in path.read_bytes().splitlines():
                self._remember(line)

    def _remember(self, line: bytes) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            return  # the line that a kill cut short
        self._known[found["key"]] = (found["text"], found["tokens"])

    def get(self, turn: Turn, model: Path) -> tuple[str, int] | None:
        """Return the text and the tokens of the answer to a turn, or None."""
        return self._known.get(self._key(turn, model)) if self._path else None

    def put(self, turn: Turn, model: Path, text: str, tokens: int) -> None:
        """Keep an answer at once.

        Raises:
            UserError: The disk is full.
        """
        if self._path is None:
            return
        key = self._key(turn, model)
        self._known[key] = (text, tokens)
        line = json.dumps({"key": key, "text": text, "tokens": tokens}, ensure_ascii=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A line of its own, whatever a kill has left of the one before.
            with self._path.open("ab") as file:
                file.write(b"\n" + line.encode())
        except OSError as error:
            raise cannot_write(self._path, error) from None

    def _key(self, turn: Turn, model: Path) -> str:
        if turn.arm.name not in self._who:
            self._who[turn.arm.name] = fingerprint(turn.arm, model)
        asked = [self._who[turn.arm.name], self._how, turn.draw, as_messages(turn.asked)]
        text = json.dumps(asked, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(arm: Arm, model: Path) -> list[str]:
    """Return what tells an arm's weights from others: the endpoint, or model and adapter.

    A model folder is told by its configuration and by size and time of its weights: hashing these
    would take as long as loading them.
    """
    if arm.endpoint:
        return [arm.endpoint.base_url, arm.endpoint.model]
    weights = sorted(model.glob("*.safetensors"))
    sizes = [f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in weights]
    adapter = file_hash(arm.adapter) if arm.adapter else ""
    return [file_hash(model / "config.json"), *sizes, adapter]
