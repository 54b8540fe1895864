"""Progress that people read: a bar in a terminal, plain lines in a log, a file for a watcher.

Everything that takes long calls :func:`track`; results go to standard output, all else to
:data:`console` on standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

Advance = Callable[..., None]
"""``advance(count=1, note="")`` moves the progress on; ``note`` is shown beside it."""

T = TypeVar("T")
MANY = 2000
"""Things from which going through them is worth showing."""
LOG_EVERY = 15.0
"""Seconds between two lines where output is not a terminal."""

OLD = 120.0
"""Seconds after which published progress may be what a killed command has left."""
console = Console(stderr=True, highlight=False, soft_wrap=True)
"""Where progress and notes go; results go to standard output."""


def in_words(seconds: float) -> str:
    """Return a time as people say it: ``33 s``, ``4 min``, ``1 h 20 min``, ``2 days 3 h``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(10 * round(minutes / 10) if minutes > 90 else minutes, 60)
        return f"{hours} h" + (f" {rest} min" if rest and hours < 10 else "")
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} days" + (f" {hours} h" if hours else "")


def time_left(seconds: float, done: int, total: int | None) -> float | None:
    """Return the seconds that what is left takes at the pace so far.

    None where nothing is done yet, so that there is no pace; where all is; or where nobody knows
    how much there is.
    """
    return seconds / done * (total - done) if total and 0 < done < total else None


@contextmanager
def track(label: str, total: int | None) -> Iterator[Advance]:
    """Show the progress of one piece of work.

    ``total`` is the number of units, or None where it is not known.
    """
    with _display(label, total) as show:
        published = PublishedProgress(label, total)
        published.write()

        def advance(count: int = 1, note: str = "") -> None:
            published.advance(count, note)
            show(count, note)

        yield advance


def tracked(label: str, things: Iterable[T], total: int) -> Iterator[T]:
    """Yield the things, ``total`` of them, with their progress shown where they are many."""
    if total < MANY:
        yield from things
        return
    with track(label, total) as advance:
        for thing in things:
            yield thing
            advance()


@contextmanager
def _display(label: str, total: int | None) -> Iterator[Advance]:
    if console.is_terminal:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total, note="")
            yield lambda count=1, note="": bar.update(task, advance=count, note=note)
        return
    yield _Lines(label, total).advance


@contextmanager
def publishing(path: Path) -> Iterator[None]:
    """Write what is tracked in this context to ``path`` as well, for :func:`read_progress`.

    The file is written once a second at most, and goes when the context ends.
    """
    before, PublishedProgress.path = PublishedProgress.path, path
    try:
        yield
    finally:
        PublishedProgress.path = before
        path.unlink(missing_ok=True)


@dataclass
class PublishedProgress:
    """The newest state of one piece of work, as JSON where somebody publishes it."""

    path: ClassVar[Path | None] = None

    label: str
    total: int | None
    done: int = 0
    note: str = ""
    started: float = field(default_factory=time.time)
    """Seconds since 1970."""
    at: float = 0.0
    """When it was last written."""
    first: int = 0
    """Units that the first step brought: the time before it goes into getting ready."""
    first_at: float = 0.0
    gpu_mib: float | None = None
    """Memory that the process holds on its GPUs; None where it computes on none."""

    @property
    def seconds(self) -> float:
        """From when the work began to when this was written."""
        return self.at - self.started

    @property
    def seconds_left(self) -> float | None:
        """Seconds that what is left will take at the pace since the first step."""
        total = self.total and self.total - self.first
        return time_left(self.at - (self.first_at or self.started), self.done - self.first, total)

    @property
    def silent(self) -> float:
        """Seconds since it was last written, as far as now."""
        return time.time() - self.at

    def advance(self, count: int, note: str) -> None:
        """Move on by ``count`` units; the file follows once a second, and at the end."""
        if not self.done:
            self.first, self.first_at = count, time.time()
        self.done += count
        self.note = note
        if time.time() - self.at >= 1 or self.done == self.total:
            self.write()

    def write(self) -> None:
        """Write it, where somebody publishes it."""
        if self.path is None:
            return
        self.at, self.gpu_mib = time.time(), gpu_memory_mib()
        temporary = self.path.with_suffix(".new")
        # Progress that cannot be written must not stop the work that it is about.
        with suppress(OSError):
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
            os.replace(temporary, self.path)


def gpu_memory_mib() -> float | None:
    """Return the MiB that torch holds on this process's GPUs; None where none is in use."""
    # Whoever computes on one has loaded it: nobody else waits for torch here.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return float(sum(torch.cuda.memory_reserved(one) for one in devices) / 2**20)


def read_progress(path: Path) -> PublishedProgress | None:
    """Return what a running stage publishes; None where nothing is tracked now."""
    try:
        return PublishedProgress(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


class _Left(ProgressColumn):
    """The time that is left at the pace of late, in words; nothing before there is a pace."""

    def render(self, task: Task) -> Text:
        left = None if task.finished else task.time_remaining
        return Text("" if left is None else f"about {in_words(left)} left")


class _Lines:
    """Progress as a line every :data:`LOG_EVERY` seconds and at the end."""

    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done = label, total, 0
        self.started = self.printed = self.first_at = time.monotonic()
        self.first = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        now = time.monotonic()
        if not self.done:  # until then models were loaded and processes started
            self.first, self.first_at = count, now
        self.done += count
        if now - self.printed < LOG_EVERY and self.done != self.total:
            return
        self.printed = now
        spent = now - self.started
        text = f"  {self.label}: {self.done}"
        if self.total:
            left = time_left(now - self.first_at, self.done - self.first, self.total - self.first)
            about = "" if left is None else f", about {in_words(left)} left"
            text += f"/{self.total} ({in_words(spent)}{about})"
        console.print(f"{text} {note}".rstrip())
