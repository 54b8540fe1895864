"""Checkpoints of a run that was killed: found again by the same call, and by no other."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from workbench.console import console
from workbench.store import write_json

_IDENTITY = "run.json"
_STATE = "trainer_state.json"


def identity(parts: dict[str, Any]) -> str:
    """Return a hash of all that makes a run what it is."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(folder: Path, run: str) -> Path | None:
    """Return the last whole checkpoint of this very run in ``folder``, None to start at step 0.

    Checkpoints of a run with another recipe, data, seed or base are removed.
    """
    named = folder / _IDENTITY
    if _json(named).get("run") != run:
        if folder.exists():
            console.print("  checkpoints of a different run were there: starting at step 0")
            shutil.rmtree(folder)
        write_json(named, {"run": run})
        return None
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    # The trainer writes its state last: a folder without it was being written when the run died.
    whole = [path for path in found if "global_step" in _json(path / _STATE)]
    for path in set(found) - set(whole):
        shutil.rmtree(path)
    if not whole:
        return None
    console.print(f"  going on from step {whole[-1].name.rpartition('-')[2]}")
    return whole[-1]


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
