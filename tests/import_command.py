"""`persona import` as tests run it: files in, and what the command has written."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.main import main
from workbench.records import Drop, Example, Preference
from workbench.store import read_records


class Imports:
    """Runs the command on files, and reads what it has written."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        # Each file stands for itself.
        runs = ("--replace", "--runs", self.folder / "runs", "--persona", "datasets/gym-trainer")
        code: int = main(["import", *map(str, arguments), *map(str, runs)])
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def stage(self) -> Path:
        return self.folder / "runs" / "gym-trainer" / "round-001" / "import"

    @property
    def rows(self) -> list[Example]:
        return list(read_records(self.stage / "examples.jsonl", Example))

    @property
    def pairs(self) -> list[Preference]:
        return list(read_records(self.stage / "preferences.jsonl", Preference))

    @property
    def drops(self) -> list[tuple[str, str]]:
        drops = read_records(self.stage / "drops.jsonl", Drop)
        return [(drop.source, drop.reason) for drop in drops]

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    @property
    def questions(self) -> list[str]:
        return [row.question for row in self.rows]
