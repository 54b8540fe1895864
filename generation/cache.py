"""Answers that were already paid for, kept by what was asked: one SQLite file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any, Protocol

from generation.outcome import Outcome
from workbench.inference.endpoint import Paid as Paid

CACHE = "answers.sqlite"
"""Name of the file in a job's folder."""
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, outcome TEXT NOT NULL, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID"""
_PAID = """CREATE TABLE IF NOT EXISTS paid (
    step TEXT NOT NULL, attempts INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL
)"""
_WAIT_SECONDS = 30.0


def request_key(base_url: str, body: dict[str, Any]) -> str:
    """Return the SHA-256 of everything that decides an answer: address, model, messages, params."""
    text = json.dumps([base_url, body], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Answers(Protocol):
    """Where an LLM finds what was paid for, and leaves what it pays for."""

    async def known(self, key: str) -> Outcome | None:
        """Return the outcome of an earlier request; it costs no tries and no tokens now."""

    async def keep(self, key: str, outcome: Outcome, step: str = "") -> None:
        """Return when the outcome survives a kill."""

    def close(self) -> None:
        """Let go of it."""


class AnswerCache:
    """A store of finished outcomes that survives a kill at any moment.

    Every answer is committed on its own in the write-ahead log, so what was put is there after a
    kill of the process; several processes may share the file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_TABLE)
        self._db.execute(_PAID)

    def get(self, key: str) -> Outcome | None:
        """Return the outcome of an earlier request; it costs no tries and no tokens now."""
        row = self._db.execute("SELECT outcome FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        return Outcome.model_validate_json(row[0]).free()

    def put(self, key: str, outcome: Outcome, step: str = "") -> None:
        """Keep an outcome and what it took, in one transaction.

        Of a failure only what it took is kept: another run shall try again.
        """
        self._db.execute("BEGIN IMMEDIATE")
        if outcome.status != "failed":
            self._db.execute(
                "INSERT OR REPLACE INTO answers (key, outcome) VALUES (?, ?)",
                (key, outcome.model_dump_json()),
            )
        if outcome.attempts:
            took = (outcome.attempts, outcome.input_tokens, outcome.output_tokens)
            self._db.execute("INSERT INTO paid VALUES (?, ?, ?, ?)", (step, *took))
        self._db.execute("COMMIT")

    async def known(self, key: str) -> Outcome | None:
        """Return :meth:`get`, for those who may have to wait for it elsewhere."""
        return self.get(key)

    async def keep(self, key: str, outcome: Outcome, step: str = "") -> None:
        """Do :meth:`put`, for those who may have to wait for it elsewhere."""
        self.put(key, outcome, step)

    def paid(self) -> dict[str, Paid]:
        """Return what each step took so far; a request that was killed on its way is not in it."""
        rows = self._db.execute(
            "SELECT step, sum(attempts), sum(input_tokens), sum(output_tokens) FROM paid"
            " GROUP BY step"
        )
        return {step: Paid(*sums) for step, *sums in rows}

    def close(self) -> None:
        """Close the file."""
        self._db.close()
