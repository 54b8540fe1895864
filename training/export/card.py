"""The model card: base, recipe, data, evaluation, the gate's figures, and the base's licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from training.export.gate import Verdict
from training.export.licences import Licence
from training.export.source import Source
from workbench.persona import Persona

_METRIC_DIGITS = 3


@dataclass(frozen=True)
class Provenance:
    """What is told of where an adapter comes from.

    Attributes:
        recipe: The effective recipe, as YAML.
        data: File of the round → its SHA-256.
        method: ``sft``, ``dpo`` or another.
        seed: Of the training.
        evaluation: ``evaluate/comparison.json``, or empty where there is none.
        dataset: The Hub's name of the rows, or empty.
    """

    recipe: str
    data: Mapping[str, str]
    method: str
    seed: int
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""


def model_card(
    source: Source,
    persona: Persona,
    licence: Licence,
    provenance: Provenance,
    verdict: Verdict | None,
    usage: str,
) -> str:
    """Return the card in Markdown, with the Hub's front matter."""
    parts = [
        _head(source, persona, licence, provenance),
        f"# {source.name}\n\n{persona.role.strip()} For: {persona.audience.strip()}\n",
        f"## Use\n\n{usage.strip()}\n",
        f"## Base and licence\n\n{_base(source)}\n\n{licence.terms}\n",
        _training(provenance),
        _evaluation(provenance.evaluation),
        _parity(verdict) if verdict else "",
        "Fine-tuning changed how it speaks, not what it knows. It is no professional advice.\n",
    ]
    return "\n".join(part for part in parts if part)


def _head(source: Source, persona: Persona, licence: Licence, provenance: Provenance) -> str:
    head: dict[str, Any] = {
        "license": licence.id,
        "language": [persona.language],
        "pipeline_tag": "text-generation",
        "tags": ["persona", "lora", provenance.method],
    }
    # The Hub takes only ids of its own here.
    if source.base_name.count("/") == 1 and not Path(source.base_name).exists():
        head |= {"base_model": source.base_name}
    if provenance.dataset:
        head |= {"datasets": [provenance.dataset]}
    return f"---\n{yaml.safe_dump(head, allow_unicode=True, sort_keys=False)}---\n"


def _base(source: Source) -> str:
    text = f"The base is `{_plain(source.base_name)}`."
    origin = source.base / "workbench.json"
    if origin.exists():
        sha = json.loads(origin.read_text(encoding="utf-8"))["gguf_sha256"]
        text += (
            f" **Its weights are 4-bit (Q4_1), widened to bfloat16**: they come from a GGUF file"
            f" (SHA-256 `{sha}`), and nothing more precise was at hand to merge into."
        )
    elif source.four_bit_base:
        text += " **Its weights are 4-bit**, and nothing more precise was at hand to merge into."
    return text


def _plain(name: str) -> str:
    """Return a base's name without the path of this machine."""
    return Path(name).name if Path(name).is_absolute() else name


def _training(provenance: Provenance) -> str:
    rows = "\n".join(f"| `{name}` | `{sha}` |" for name, sha in provenance.data.items())
    return (
        f"## Training\n\nMethod {provenance.method}, seed {provenance.seed}.\n\n"
        f"```yaml\n{provenance.recipe.strip()}\n```\n\n"
        f"| Data | SHA-256 |\n| --- | --- |\n{rows}\n"
        + (
            f"\nThe rows: [{provenance.dataset}](https://huggingface.co/datasets/"
            f"{provenance.dataset}).\n"
            if provenance.dataset
            else ""
        )
    )


def _evaluation(comparison: Mapping[str, Any]) -> str:
    if not comparison:
        return "## Evaluation\n\nThe round was not evaluated.\n"
    arms, metrics = comparison["arms"], comparison["metrics"]
    means = {(c["arm"], c["metric"]): c.get("mean") for c in comparison["cells"]}
    lines = [f"| metric | {' | '.join(arms)} |", f"| --- |{' --- |' * len(arms)}"]
    for metric in metrics:
        row = [means.get((arm, metric)) for arm in arms]
        shown = ["–" if value is None else f"{value:.{_METRIC_DIGITS}f}" for value in row]
        lines.append(f"| {metric} | {' | '.join(shown)} |")
    return (
        f"## Evaluation\n\nMeans over {comparison['prompts']} held-out prompts.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _parity(verdict: Verdict) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in verdict.table().items())
    return (
        "## Parity\n\nThe exported model was asked the evaluation's prompts and compared with the"
        f" evaluated one.\n\n| | |\n| --- | --- |\n{rows}\n"
    )
