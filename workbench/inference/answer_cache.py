"""Answers that were given before, of endpoints and of local models: one SQLite file.

In comes a key, which is a hash of everything that decides an answer, out comes the
:class:`~workbench.inference.completion.Completion` that was kept under it. What an answer took is
kept beside it, so that a job knows what all of its runs together were paid.

A kill at any moment loses what was under way and nothing else: every answer is a transaction of its
own in the write-ahead log. Threads may share an object, processes may share a file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Protocol, Self

from workbench.errors import UserError
from workbench.inference.chat_template import BRIDGE
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Paid
from workbench.store import file_hash

CACHE = "answers.sqlite"
"""Name of the file in a job's folder."""
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, completion TEXT NOT NULL, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS paid (
    step TEXT NOT NULL, endpoint TEXT NOT NULL, attempts INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL
);
"""
_WAIT_SECONDS = 30.0
_SMALL = ("*.json", "*.jinja", "*.model", "*.txt")
"""Files of a model that are no weights: configuration, tokenizer, template, ends of an answer."""
_DECIDE = ("peft", "torch", "transformers")
"""Libraries whose versions may change a token."""


def answer_key(**decides: object) -> str:
    """Return the SHA-256 of everything that decides an answer, as hex.

    These are JSON values by name, such as ``endpoint``, ``model``, ``messages``, ``schema``; of a
    local model :func:`model_fingerprint` and how it decodes. The order does not matter.
    """
    text = json.dumps(decides, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def base_fingerprint(folder: Path) -> str:
    """Return what tells a base from others, wherever it lies, as hex.

    Every small file by its content, weights by their names and sizes: hashing them would take as
    long as loading them. How a template is bridged counts as well.
    """
    small = sorted({path for pattern in _SMALL for path in folder.glob(pattern)})
    hashes = [f"{file.name}:{file_hash(file)}" for file in small]
    weights = [f"{p.name}:{p.stat().st_size}" for p in sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("\n".join([f"bridge:{BRIDGE}", *hashes, *weights]).encode()).hexdigest()


def model_fingerprint(folder: Path, adapter: Path | None = None) -> list[str]:
    """Return what tells a local model's answers apart: weights, adapter, template, versions."""
    times = [str(path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors"))]
    versions = [f"{name}:{metadata.version(name)}" for name in _DECIDE]
    own = file_hash(adapter) if adapter else ""
    return [base_fingerprint(folder), *times, own, *versions]


class Answers(Protocol):
    """Where a client finds what was paid for, and leaves what it pays for."""

    @property
    def folder(self) -> Path | None:
        """Where more about the same requests may be written; None where nothing is to last."""

    async def known(self, key: str) -> Completion | None:
        """Return the completion of an earlier request; it costs no tries and no tokens now."""

    async def keep(self, key: str, completion: Completion, step: str, endpoint: str) -> None:
        """Return when the completion survives a kill."""

    def close(self) -> None:
        """Let go of it."""


class AnswerCache:
    """The file, open; use it as a context manager, or close it.

    ``path`` is made with its folder where it is not there; None keeps answers in memory.

    Raises:
        UserError: The file cannot be opened or is no SQLite file; as do the methods.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, threading.Lock()
        with self._errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path or ":memory:", timeout=_WAIT_SECONDS, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            # In the log a kill of the process loses nothing; only one of the machine may.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path | None:
        """The file's folder."""
        return self._path.parent if self._path else None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"the answers cannot be kept ({error})",
                where=str(self._path or "memory"),
                fix="free some space; a file that is broken may be deleted, then all is asked anew",
            ) from None

    def get(self, key: str) -> Completion | None:
        """Return the completion kept under a key, which costs nothing now, or None."""
        with self._errors(), self._lock:
            row = self._db.execute(
                "SELECT completion FROM answers WHERE key = ?", (key,)
            ).fetchone()
        return Completion.model_validate_json(row[0]).free() if row else None

    def put(self, key: str, completion: Completion, step: str = "", endpoint: str = "") -> None:
        """Keep a completion and what it took, in one transaction.

        Of one that is not final only what it took is kept: another run shall try again.
        ``endpoint`` is the :attr:`Endpoint.name` of who answered; empty for a local model.
        """
        with self._errors(), self._lock, self._db:
            if completion.final:
                self._db.execute(
                    "INSERT OR REPLACE INTO answers (key, completion) VALUES (?, ?)",
                    (key, completion.model_dump_json()),
                )
            if endpoint and completion.attempts:
                took = completion.attempts, completion.input_tokens, completion.output_tokens
                self._db.execute("INSERT INTO paid VALUES (?, ?, ?, ?, ?)", (step, endpoint, *took))

    async def known(self, key: str) -> Completion | None:
        """Return :meth:`get`, for those who may have to wait for it elsewhere."""
        return self.get(key)

    async def keep(self, key: str, completion: Completion, step: str, endpoint: str) -> None:
        """Do :meth:`put`, for those who may have to wait for it elsewhere."""
        self.put(key, completion, step, endpoint)

    def ledger(self) -> dict[tuple[str, str], Paid]:
        """Return (step, endpoint's name) → what it took; a request that was killed is not in it."""
        with self._errors(), self._lock:
            rows = self._db.execute(
                "SELECT step, endpoint, sum(attempts), sum(input_tokens), sum(output_tokens)"
                " FROM paid GROUP BY step, endpoint"
            ).fetchall()
        return {(step, endpoint): Paid(*sums) for step, endpoint, *sums in rows}

    def paid(self, endpoint: Endpoint | None = None) -> dict[str, Paid]:
        """Return step → what it took so far.

        ``endpoint`` is whose requests alone are counted; all by default.
        """
        steps: dict[str, list[Paid]] = {}
        for (step, name), paid in self.ledger().items():
            if endpoint is None or name == endpoint.name:
                steps.setdefault(step, []).append(paid)
        return {step: Paid.total(parts) for step, parts in steps.items()}

    def count(self) -> int:
        """Return the number of answers."""
        with self._errors(), self._lock:
            (count,) = self._db.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def paid_by(cache: Path, steps: Mapping[str, Endpoint]) -> dict[str, Paid]:
    """Return what each step took at its endpoint, over every run that used the file."""
    if not cache.exists():
        return dict.fromkeys(steps, Paid())
    with AnswerCache(cache) as answers:
        return {step: answers.paid(endpoint).get(step, Paid()) for step, endpoint in steps.items()}
