"""A round as the stages before an evaluation leave it, on the tiny model, in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from evaluation.probes import read_probes
from generation.importing import import_rows
from workbench.persona import load_persona
from workbench.records import Response, Review
from workbench.store import write_records

INSTRUCTED = 3
"""Instructions that each arm whose weights are here is asked."""


def write_round(home: Path, persona: Path, model: Path) -> tuple[Path, Path, Path]:
    """Write twenty rows of a persona as a round of ``home / "runs"``.

    Returns:
        The round's folder, a configuration, and a copy of the model with room for system prompts.
    """
    folder = home / "runs" / persona.name / "round-001"
    rows = import_rows(persona / "seeds.jsonl", load_persona(persona)).examples[:20]
    bare = [
        Response(arm="base", prompt_id=row.id, prompt=row.prompt, text="There are several causes.")
        for row in rows
    ]
    reviews = [
        Review(reviewer=name, record=row.id, answers={"fidelity": 5})
        for row in rows
        for name in ("reviewer-1", "reviewer-2")
    ]
    for name, records in {
        "split/test.jsonl": rows[:4],
        "split/train.jsonl": rows[4:],
        "split/probes.jsonl": read_probes(persona / "probes.jsonl"),
        "generate/baseline.jsonl": bare,
        "filter/examples.jsonl": rows,
        "review/reviews.jsonl": reviews,
    }.items():
        write_records(folder / name, records)  # type: ignore[arg-type]
    roomy = _roomy(model, home / "model")
    config = home / "run.yaml"
    settings = {
        "persona": str(persona),
        "model": str(roomy),
        "evaluate": {
            **{"max_new_tokens": 8, "probes": 1, "conversations": 1, "drift": 2, "max_unscored": 1},
            **{"safety": 1, "requests": 1},
            "gate": {"cross_entropy": 9, "instructions": 1},
            "instructed": INSTRUCTED,
        },
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    return folder, config, roomy


def _roomy(model: Path, folder: Path) -> Path:
    """Return the tiny model with room for a persona's system prompt, byte by byte."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["max_position_embeddings"] = 16_384
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
