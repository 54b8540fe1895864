"""The card of a generated dataset: what it is, who made it, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from workbench.persona import Persona

FILES = ("examples", "preferences")


def dataset_card(persona: Persona, manifest: Mapping[str, Any]) -> str:
    """Return a dataset card in Markdown, for a folder that ``generate`` wrote.

    Args:
        persona: Whose rows they are.
        manifest: The stage's manifest, or what it will say: settings, counts, seed, versions,
            start and the number of records of each file.
    """
    counts, settings = manifest["counts"], manifest["settings"]
    head = {
        "language": [persona.language],
        "task_categories": ["text-generation"],
        "pretty_name": f"{persona.name}: generated rows",
        "tags": ["persona", "synthetic", "distilabel"],
        "configs": [
            {"config_name": name, "data_files": f"{name}.jsonl"}
            for name in FILES
            if manifest["outputs"].get(f"{name}.jsonl", {}).get("records")
        ],
    }
    teacher = settings.get("teacher") or {}
    prompts = counts.get("prompts", {})
    spent = f"{counts['spent']:.4f} {counts['currency']}" if counts.get("currency") else "unknown"
    lost = ", ".join(f"{kind} {count}" for kind, count in counts.get("lost", {}).items())
    facts = {
        "Persona": f"{persona.name}, version {persona.version} (`{persona.record_id}`)",
        "Teacher": teacher.get("model", "none"),
        "Rows": f"{counts['taught']} of {counts.get('planned', 0)} planned; lost: {lost or 'none'}",
        "Judge": (settings.get("judge") or {}).get("model", "none: rules alone"),
        "Prompts": ", ".join(f"{name} `{mark}`" for name, mark in prompts.items()),
        "Made by": f"distilabel {manifest['versions']['distilabel']}, seed {manifest['seed']}",
        "Requests": str(counts.get("requests", 0)),
        "Cost": spent,
        "Made": manifest["started"],
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"---\n{yaml.safe_dump(head, allow_unicode=True, sort_keys=False)}---\n\n"
        f"# {persona.name}: generated rows\n\n"
        f"{persona.role.strip()} For: {persona.audience.strip()}\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n"
        "Every row holds its `prompt` as chat messages, its `answer`, its `topic` and its `kind`;\n"
        "`parents` are the ids of the persona and of the examples that the teacher was shown.\n\n"
        "The rows are a model's output and were not reviewed. Whether they may be used to train\n"
        "another model, and under which licence they may be passed on, is decided by the terms of\n"
        f"the teacher ({teacher.get('model', 'none')}): check them before you publish.\n"
    )
