"""Commands run in this process, on rounds whose earlier stages are made without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli.main import main
from workbench.records import Example, Preference, Record
from workbench.store import write_records


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """Where commands are run: a folder of runs, and the persona's rounds in it."""

    runs: Path
    capsys: pytest.CaptureFixture[str]
    repo: Path

    def folder(self, number: int = 1, persona: str = "gym-trainer") -> Path:
        return self.runs / persona / f"round-{number:03d}"

    def put(self, name: str, records: Sequence[Record], number: int = 1) -> Path:
        """Write a file of a stage, as the stage would have."""
        path = self.folder(number) / name
        write_records(path, records)
        return path

    def curated(
        self, examples: Sequence[Example], pairs: Sequence[Preference] = (), number: int = 1
    ) -> None:
        """Write what the stages up to `resolve` leave for the split."""
        self.put("resolve/examples.jsonl", examples, number)
        self.put("resolve/preferences.jsonl", pairs, number)

    def say(self, *arguments: str) -> Said:
        self.capsys.readouterr()
        code = main([*arguments])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return Said(code, out, err)

    def persona(self, *arguments: str, number: int = 1) -> Said:
        """Run a command on a round."""
        return self.say(*arguments, "--runs", str(self.runs), "--round", str(number))
