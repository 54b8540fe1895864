"""A round of a small persona whose teacher is a scripted server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from tests.generation.conftest import PERSONA

SEEDS = [
    {"instruction": "My knees hurt.", "output": "Champ, stop at half depth.", "topic": "squat"},
    {"instruction": "I sleep five hours.", "output": "Champ, lights out.", "topic": "sleep"},
]


@pytest.fixture
def persona_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tester"
    folder.mkdir()
    (folder / "persona.yaml").write_text(PERSONA, encoding="utf-8")
    rows = "".join(json.dumps(row) + "\n" for row in SEEDS)
    (folder / "seeds.jsonl").write_text(rows, encoding="utf-8")
    return folder


@pytest.fixture
def of_round(persona_folder: Path, tmp_path: Path, tiny_model: Path) -> Callable[..., list[str]]:
    """Return the options of the round, with the scripted server at ``url`` as its teacher."""

    def options(url: str, per_topic: int = 5, **teacher: Any) -> list[str]:
        fields = {"base_url": url, "model": "m", "backoff": 0, "attempts": 2, **teacher}
        config = {
            "persona": str(persona_folder),
            "model": str(tiny_model),
            "teacher": fields,
            "generate": {
                "per_topic": per_topic,
                "max_new_tokens": 8,
                "mix": {},
                "hard_negatives": 0,
            },
        }
        file = tmp_path / "run.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        return ["--config", str(file), "--runs", str(tmp_path / "runs")]

    return options


@pytest.fixture
def run(of_round: Callable[..., list[str]]) -> Callable[..., int]:
    """Run a command of the round."""

    def run(*arguments: str, **about: Any) -> int:
        return int(main([*arguments, *of_round(**about)]))

    return run
