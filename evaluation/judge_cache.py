"""What the judge said before, in a JSONL file that grows by a line with every answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from workbench.endpoint import Endpoint
from workbench.store import cannot_write

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
        self._path = path
        self._words: dict[str, str] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._file.seek(0)
        text = self._file.read()
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                # The last line of a killed run: it is asked again.
                continue
            self._words[row["key"]] = row["word"]
        if text and not text.endswith("\n"):
            self._file.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def get(self, ask: Ask, vote: int) -> str | None:
        """Return what was said to a prompt's vote of that number, or None."""
        return self._words.get(self._key(ask, vote))

    def put(self, ask: Ask, vote: int, word: str) -> None:
        """Keep an answer; failures are not kept, another run shall try again."""
        key = self._key(ask, vote)
        self._words[key] = word
        if self._file:
            self._file.write(json.dumps({"key": key, "word": word}) + "\n")
            self._file.flush()

    def _key(self, ask: Ask, vote: int) -> str:
        text = json.dumps([*self._who, ask.prompt, ask.allowed, vote], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
