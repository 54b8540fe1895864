"""Progress that people read: a bar in a terminal, plain lines in a log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[..., None]
"""``advance(count=1, note="")`` moves the progress on; ``note`` is shown beside it."""

LOG_EVERY = 15.0
"""Seconds between two lines where output is not a terminal."""

console = Console(stderr=True, highlight=False, soft_wrap=True)
"""Where progress and notes go; results go to standard output."""


@contextmanager
def track(label: str, total: int | None) -> Iterator[Advance]:
    """Show the progress of one piece of work.

    Args:
        label: What is being done, in the present tense.
        total: Number of units, or None where it is not known.
    """
    with _shown(label, total) as show:
        news = _News(label, total)

        def advance(count: int = 1, note: str = "") -> None:
            news.advance(count, note)
            show(count, note)

        yield advance


@contextmanager
def _shown(label: str, total: int | None) -> Iterator[Advance]:
    if console.is_terminal:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total, note="")
            yield lambda count=1, note="": bar.update(task, advance=count, note=note)
        return
    yield _Lines(label, total).advance


@contextmanager
def publishing(path: Path) -> Iterator[None]:
    """Write what is tracked in this context to ``path`` as well, for ``persona watch``.

    The file is JSON with label, done, total, note, started and at (seconds since 1970), is written
    once a second at most, and goes when the context ends.
    """
    before, _News.path = _News.path, path
    try:
        yield
    finally:
        _News.path = before
        path.unlink(missing_ok=True)


@dataclass
class _News:
    """The newest state of one piece of work, where somebody publishes it."""

    path: ClassVar[Path | None] = None

    label: str
    total: int | None

    def __post_init__(self) -> None:
        self.done, self.started, self.told = 0, time.time(), 0.0
        self.advance(0, "")

    def advance(self, count: int, note: str) -> None:
        self.done += count
        now = time.time()
        if _News.path is None or (now - self.told < 1 and self.done != self.total):
            return
        self.told = now
        news = {"label": self.label, "done": self.done, "total": self.total, "note": note}
        temporary = _News.path.with_suffix(".new")
        # News that cannot be written must not stop the work that it is about.
        with suppress(OSError):
            temporary.write_text(
                json.dumps(news | {"started": self.started, "at": now}), encoding="utf-8"
            )
            os.replace(temporary, _News.path)


class _Lines:
    """Progress as a line every :data:`LOG_EVERY` seconds and at the end."""

    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done = label, total, 0
        self.started = self.told = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        now = time.monotonic()
        if now - self.told < LOG_EVERY and self.done != self.total:
            return
        self.told = now
        spent = now - self.started
        text = f"  {self.label}: {self.done}"
        if self.total:
            left = spent / max(self.done, 1) * (self.total - self.done)
            text += f"/{self.total} ({spent:.0f} s, {left:.0f} s left)"
        console.print(f"{text} {note}".rstrip())
