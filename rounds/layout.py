"""Rounds: folders of plain files, one folder a stage, each with its manifest.

A stage's folder is made under a temporary name and renamed when it is whole, manifest included, so
that a manifest's existence means "done". Whether a stage is up to date is read off its manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UserError

MANIFEST = "manifest.json"
PROGRESS = ".progress.json"
"""What the running stage is doing, for ``persona watch``; gone when it ends."""
TRAINED = "trained.jsonl"
"""In the folder of a training stage that goes on from an earlier round: the rows of this one."""
STAGES = (
    "import",
    "generate",
    "filter",
    "review",
    "resolve",
    "split",
    "sft",
    "dpo",
    "grpo",
    "kto",
    "evaluate",
    "report",
)
"""Names of the stages' folders, in the order in which a reader meets them."""
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Round:
    """One round of one persona on disk."""

    folder: Path

    @property
    def name(self) -> str:
        """The round's name, such as ``round-001``."""
        return self.folder.name

    def stage(self, name: str) -> Path:
        """Return the folder of a finished stage."""
        return self.folder / name

    def manifest(self, stage: str) -> Manifest | None:
        """Return the manifest of a finished stage, or None."""
        path = self.stage(stage) / MANIFEST
        if not path.exists():
            return None
        manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the round, so that two commands do not write it at once.

        Raises:
            UserError: Another command holds it, or the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise UserError(
                "another command is at work on this round",
                where=str(self.folder),
                fix="wait for it, or stop it",
            ) from None


def open_round(runs: Path, persona: str, number: int) -> Round:
    """Return round ``number`` (from 1) of a persona; nothing is made on disk yet."""
    return Round(runs / persona / f"round-{number:03d}")


def is_round(name: Path) -> bool:
    """Return whether ``name`` is a round's, such as ``round-001``, and no file's."""
    return re.fullmatch(r"round-\d{3,}", str(name)) is not None
