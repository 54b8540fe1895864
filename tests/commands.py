"""Commands run in this process, on rounds whose earlier stages are made without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from rounds.context import RoundContext, open_context
from rounds.layout import MANIFEST, Manifest, RoundFolder
from workbench.records import Example, Preference, Record
from workbench.store import write_json, write_records


@dataclass(frozen=True)
class Output:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass
class Workspace:
    """A folder of runs, and the rounds of a persona in it."""

    runs: Path
    repo: Path

    def folder(self, number: int = 1, persona: str = "gym-trainer") -> Path:
        return self.runs / persona / f"round-{number:03d}"

    def round(self, number: int = 1) -> RoundFolder:
        return RoundFolder(self.folder(number))

    def context(self, number: int = 1, **changes: Any) -> RoundContext:
        """Return the context of a round, as the options of a command would give it."""
        return open_context(runs=self.runs, round_number=number, **changes)

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

    def finished(self, stage: str, number: int = 1, **about: object) -> None:
        """Write the manifest that says that a stage is done."""
        write_manifest(self.folder(number), stage, **about)


def write_manifest(folder: Path, stage: str, **about: object) -> None:
    """Write the manifest of a stage that a test made by hand; ``about`` are its fields."""
    fields: dict[str, Any] = {
        "stage": stage,
        "inputs": {},
        "settings": {},
        "seed": 0,
        "key": "0" * 64,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 0,
        "peak_mib": 0,
    }
    manifest = Manifest.model_validate(fields | about)
    write_json(folder / stage / MANIFEST, manifest.model_dump(mode="json"))


@dataclass
class Commands(Workspace):
    """Where commands are run, with their output read."""

    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> Output:
        self.capsys.readouterr()
        code = main([*arguments])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return Output(code, out, err)

    def on_round(self, *arguments: str, number: int = 1) -> Output:
        """Run a command on a round."""
        return self.run(*arguments, "--runs", str(self.runs), "--round", str(number))
