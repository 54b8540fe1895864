"""The card of a generated dataset: what it is, who made it, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generation.cost import teacher_lines
from workbench.inference.endpoint import TeacherPart
from workbench.persona import Persona

FILES = ("examples", "preferences")


def dataset_card(persona: Persona, manifest: Mapping[str, Any]) -> str:
    """Return a dataset card in Markdown, for a folder that ``generate`` wrote.

    The manifest is the stage's, or what it will say: settings, counts, seed, versions, start and
    the number of records of each file.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    configs = [
        {"config_name": name, "data_files": f"{name}.jsonl"}
        for name in FILES
        if manifest["outputs"].get(f"{name}.jsonl", {}).get("records")
    ]
    card = DatasetCard.from_template(
        DatasetCardData(
            language=[persona.language],
            task_categories=["text-generation"],
            pretty_name=f"{persona.name}: generated rows",
            tags=["persona", "synthetic", "distilabel"],
            configs=configs,
        ),
        template_path=str(Path(__file__).with_name("card.md.j2")),
        persona=persona,
        facts=_facts(persona, manifest),
    )
    return str(card)


def _facts(persona: Persona, manifest: Mapping[str, Any]) -> dict[str, str]:
    counts, settings = manifest["counts"], manifest["settings"]
    prompts = counts.get("prompts", {})
    spent = f"{counts['spent']:.4f} {counts['currency']}" if counts.get("currency") else "unknown"
    parts = [TeacherPart(**one) for one in counts.get("teachers", ())]
    teachers = teacher_lines(parts, counts.get("currency") or "")
    lost = ", ".join(f"{kind} {count}" for kind, count in counts.get("lost", {}).items())
    return {
        "Persona": f"{persona.name}, version {persona.version} (`{persona.record_id}`)",
        "Teacher": _names(settings.get("teacher")),
        **({"Each teacher": "; ".join(teachers)} if teachers else {}),
        "Rows": f"{counts['taught']} of {counts.get('planned', 0)} planned; lost: {lost or 'none'}",
        "Judge": (settings.get("judge") or {}).get("model", "none: rules alone"),
        "Prompts": ", ".join(f"{name} `{mark}`" for name, mark in prompts.items()),
        "Made by": f"distilabel {manifest['versions']['distilabel']}, seed {manifest['seed']}",
        "Requests": str(counts.get("requests", 0)),
        "Cost": spent,
        "Made": manifest["started"],
    }


def _names(who: Any) -> str:
    """Return the teachers' names."""
    several = who if isinstance(who, list) else [who or {"model": "none"}]
    return ", ".join(str(one["model"]) for one in several)
