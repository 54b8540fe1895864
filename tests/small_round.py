"""A round of a small persona whose teacher is a scripted server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rounds.context import RoundContext, open_context
from tests.generation.conftest import PERSONA

SEEDS = [
    {"instruction": "My knees hurt.", "output": "Champ, stop at half depth.", "topic": "squat"},
    {"instruction": "I sleep five hours.", "output": "Champ, lights out.", "topic": "sleep"},
]


@dataclass(frozen=True)
class SmallRound:
    """Where the persona and its rounds lie."""

    home: Path
    model: Path

    @property
    def folder(self) -> Path:
        return self.home / "runs" / "tester" / "round-001"

    def written_persona(self) -> Path:
        """Write the persona with two seeds, and return its folder."""
        folder = self.home / "tester"
        folder.mkdir(exist_ok=True)
        (folder / "persona.yaml").write_text(PERSONA, encoding="utf-8")
        rows = "".join(json.dumps(row) + "\n" for row in SEEDS)
        (folder / "seeds.jsonl").write_text(rows, encoding="utf-8")
        return folder

    def config(self, url: str, per_topic: int = 5, **teacher: object) -> Path:
        """Write a configuration whose teacher is at ``url``, and return its file."""
        fields = {"base_url": url, "model": "m", "backoff": 0, "attempts": 2, **teacher}
        rows = {"per_topic": per_topic, "max_new_tokens": 8, "mix": {}, "hard_negatives": 0}
        config = {
            "persona": str(self.written_persona()),
            "model": str(self.model),
            "teacher": fields,
            "generate": rows,
        }
        file = self.home / "run.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        return file

    def context(self, url: str, per_topic: int = 5, **teacher: object) -> RoundContext:
        """Return the context of the round with such a teacher."""
        config = self.config(url, per_topic, **teacher)
        return open_context(config=config, runs=self.home / "runs")

    def options(self, url: str, per_topic: int = 5, **teacher: object) -> list[str]:
        """Return the same as options of a command."""
        config = self.config(url, per_topic, **teacher)
        return ["--config", str(config), "--runs", str(self.home / "runs")]
