"""A job's rows as they come, in a file that can be read whole at any moment.

The pipelines' steps add a :class:`LiveRow` for every answer, every question that was dropped and
every conversation that ended; ``persona watch --rows`` shows them, and ``datasets`` opens the file.
They are what came, before anybody chose among candidates: what is kept stands in the stage's own
files once it is done.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from workbench.config import ORDINARY
from workbench.records import Drop, Example, Messages, as_messages
from workbench.store import read_json_lines
from workbench.values import Frozen

FILE = "rows.jsonl"
"""Name of the file in a job's folder."""
_EVERY = 1.0
"""Seconds between two versions of the file."""
_SHARE = 0.05
"""Part of the job's time that writing it may take."""


class LiveRow(Frozen):
    """One row as it came: with an answer, or with the reason why there is none."""

    kind: str
    """Of the question; ``ordinary``, or ``conversation``."""
    topic: str = ""
    teacher: str = ""
    """Model that wrote it."""
    prompt: Messages = ()
    """The conversation up to the answer."""
    answer: str = ""
    dropped: str = ""
    """Why it is no row; empty for one that came."""

    @property
    def question(self) -> str:
        """The last user turn."""
        return self.prompt[-1].content if self.prompt else ""

    @classmethod
    def of(cls, rows: Iterable[Example], drops: Iterable[Drop]) -> list[LiveRow]:
        """Return what a stage that is done wrote, in the same form."""
        came = [
            cls(
                kind=row.kind or ORDINARY,
                topic=row.topic,
                teacher=row.source,
                prompt=row.prompt,
                answer=row.answer,
            )
            for row in rows
        ]
        return [cls(kind="", teacher=one.source, dropped=one.reason) for one in drops] + came


@dataclass
class LiveRows:
    """The file, written anew every second at the most, each time whole.

    Without a path nothing is written.
    """

    path: Path | None
    _lines: list[str] = field(default_factory=list)
    _next: float = 0.0

    def add(self, row: LiveRow) -> None:
        """Add a row; the file follows within a second, where rows go on coming."""
        if self.path is None:
            return
        # Every column in every row: readers take those of the first.
        line = {**row.model_dump(), "prompt": as_messages(row.prompt)}
        self._lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Put a new version in the place of the last one: nobody ever reads half a line."""
        if self.path is None or not self._lines:
            return
        began = time.monotonic()
        temporary = self.path.with_suffix(".new")
        # A view that cannot be written must not stop the work that it shows.
        with suppress(OSError):
            temporary.write_text("".join(self._lines), encoding="utf-8")
            os.replace(temporary, self.path)
        ended = time.monotonic()
        self._next = ended + max(_EVERY, (ended - began) / _SHARE)


def read_live_rows(path: Path) -> list[LiveRow]:
    """Return the rows of a file as far as it goes now; none where there is no file."""
    if not path.exists():
        return []
    return [LiveRow.model_validate(line) for _, line in read_json_lines(path)]


@dataclass(frozen=True)
class RowCounts:
    """How many rows of each kind came, and why others did not."""

    kinds: Counter[str]
    dropped: Counter[str]

    @classmethod
    def of(cls, rows: Sequence[LiveRow]) -> RowCounts:
        """Count rows."""
        return cls(
            Counter(row.kind for row in rows if not row.dropped),
            Counter(row.dropped for row in rows if row.dropped),
        )

    def lines(self) -> list[str]:
        """Return the share of each kind, and the reasons of drops, for people."""
        came = self.kinds.total()
        parts = [f"{kind} {n} ({n / came:.0%})" for kind, n in self.kinds.most_common()]
        lines = [f"rows: {came}" + (f": {', '.join(parts)}" if parts else "")]
        if self.dropped:
            reasons = ", ".join(f"{reason} {n}" for reason, n in self.dropped.most_common())
            lines.append(f"dropped: {self.dropped.total()}: {reasons}")
        return lines
