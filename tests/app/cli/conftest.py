"""Commands on a round of a small persona whose teacher is a scripted server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from tests.commands import write_manifest
from tests.import_command import Imports
from tests.small_round import SmallRound
from workbench.records import Example, user_prompt
from workbench.store import write_records


@pytest.fixture
def persona_folder(small_round: SmallRound) -> Path:
    return small_round.written_persona()


@pytest.fixture
def of_round(small_round: SmallRound) -> Callable[..., list[str]]:
    """Return the options of the round, with the scripted server at ``url`` as its teacher."""
    return small_round.options


@pytest.fixture
def run(small_round: SmallRound) -> Callable[..., int]:
    """Run a command of the round."""

    def run(*arguments: str, **about: Any) -> int:
        return int(main([*arguments, *small_round.options(**about)]))

    return run


@pytest.fixture
def imports(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Imports:
    monkeypatch.chdir(repo)
    return Imports(tmp_path, capsys)


def trained_round(folder: Path, persona_folder: Path, trained: Path) -> list[str]:
    """Make a round that was trained and not evaluated, and return the options that name it.

    Args:
        folder: Where configuration and runs go.
        persona_folder: Of the persona.
        trained: Holds ``base`` and ``adapter``.
    """
    config = {
        "persona": str(persona_folder),
        "model": str(trained / "base"),
        "evaluate": {"max_new_tokens": 8},
    }
    (folder / "run.yaml").write_text(json.dumps(config), encoding="utf-8")
    made = folder / "runs" / "tester" / "round-001"
    rows = [Example(prompt=user_prompt(f"the chair {n}?"), answer="Up, champ.") for n in range(3)]
    write_records(made / "split" / "test.jsonl", rows)
    write_records(made / "split" / "train.jsonl", rows)
    shutil.copytree(trained / "adapter", made / "sft" / "adapter")
    (made / "sft" / "recipe.yaml").write_text("method: sft\n", encoding="utf-8")
    write_manifest(made, "sft", inputs={"split/train.jsonl": "cd" * 32}, seed=3)
    return ["--config", str(folder / "run.yaml"), "--runs", str(folder / "runs")]
