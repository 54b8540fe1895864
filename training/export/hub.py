"""The Hub: model card and dataset card that link to each other, and folders sent when asked to.

The cards are huggingface_hub's own (``ModelCard``, ``DatasetCard``) over the two templates beside
this file; nothing is sent but by :func:`push_folders`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.export.carried import public_name
from training.export.gate import ParityReport
from training.export.source import ExportSource, Licence, check_name
from workbench.errors import UserError
from workbench.inference.hub import hub_errors
from workbench.persona import Persona
from workbench.stats import Comparison
from workbench.store import read_json, whole_folder

_SPLITS = ("train", "validation", "test")
_LEFT_OUT = ("gate.json", "manifest.json")
"""Files of an export that mean nothing away from this machine."""


@dataclass(frozen=True)
class Provenance:
    """What is known of where an adapter comes from."""

    recipe: str
    """The effective recipe, as YAML."""
    data: Mapping[str, str]
    """File of the round → its SHA-256."""
    method: str
    """``sft``, ``dpo`` or another; empty where the base answers under a prompt."""
    seed: int
    evaluation: Comparison | None = None
    """The round's comparison of arms, where it was evaluated."""
    dataset: str = ""
    """The Hub's name of the rows, or empty."""
    strength: float = 1.0
    """Factor on what the adapter adds to its base."""
    rows: str = ""
    """What the datasheet says of the rows, in Markdown; empty where they are of no split."""


def model_card(
    source: ExportSource,
    persona: Persona,
    licence: Licence,
    provenance: Provenance,
    parity: ParityReport | None,
    usage: str,
    system: str = "",
) -> str:
    """Return the card in Markdown, with the Hub's front matter; ``system`` is the arm's prompt."""
    from huggingface_hub import ModelCard, ModelCardData

    # The Hub takes only ids of its own as a base.
    on_hub = source.base_name.count("/") == 1 and not Path(source.base_name).exists()
    data = ModelCardData(
        license=licence.id,
        language=[persona.language],
        pipeline_tag="text-generation",
        tags=["persona", "lora", provenance.method] if provenance.method else ["persona"],
        base_model=source.base_name if on_hub else None,
        datasets=[provenance.dataset] if provenance.dataset else None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("model_card.md.j2")),
        name=source.name,
        persona=persona,
        usage=usage,
        system=system,
        base=_base(source),
        licence=licence,
        provenance=provenance,
        means=_means(provenance.evaluation),
        parity=parity.table() if parity else {},
    )
    return str(card)


def _base(source: ExportSource) -> str:
    text = f"The base is `{public_name(source.base_name)}`."
    origin = source.base / "workbench.json"
    if origin.exists():
        sha = read_json(origin)["gguf_sha256"]
        text += (
            f" **Its weights are 4-bit (Q4_1), widened to bfloat16**: they come from a GGUF file"
            f" (SHA-256 `{sha}`), and nothing more precise was at hand to merge into."
        )
    elif source.four_bit_base:
        text += " **Its weights are 4-bit**, and nothing more precise was at hand to merge into."
    return text


def _means(comparison: Comparison | None) -> dict[str, list[str]]:
    """Return metric → each arm's mean, as text; empty where nothing was evaluated."""
    if comparison is None:
        return {}
    means = {(cell.arm, cell.metric): cell.mean for cell in comparison.cells}
    rows = {
        metric: [means.get((arm, metric)) for arm in comparison.arms]
        for metric in comparison.metrics
    }
    return {
        metric: ["–" if value is None else f"{value:.3f}" for value in row]
        for metric, row in rows.items()
    }


def check_names(repository: str, dataset: str) -> None:
    """Raise a UserError unless both are OWNER/NAME (the second may be empty)."""
    for where, value in (("OWNER/NAME", repository), ("--dataset", dataset)):
        if not value and where == "--dataset":
            continue
        if value.count("/") != 1:
            raise UserError(f"'{value}' is no name on the Hub", where=where, fix="give OWNER/NAME")
        for part in value.split("/"):
            check_name(part, where)


def check_terms(base_name: str, licence: Licence, accepted: bool) -> None:
    """Raise a UserError for a base whose licence binds redistribution, unless it was accepted."""
    if licence.restricted and not accepted:
        raise UserError(
            f"the base {base_name} is under {licence.id}. {licence.terms}",
            where="--push",
            fix="heed that, then add --accept-licence",
        )


def write_dataset(split: Path, persona: Persona, model: Path, repository: str) -> Path:
    """Write the round's splits with a card that names the model; return the folder.

    The folder lies beside ``model``, that of the model's export; ``repository`` is the model's name
    on the Hub.

    Raises:
        UserError: The round was not split.
    """
    files = [
        path
        for name in (*_SPLITS, *(f"preferences-{split_name}" for split_name in _SPLITS))
        if (path := split / f"{name}.jsonl").exists() and path.stat().st_size
    ]
    if not files:
        raise UserError("the round has no split rows", where=str(split))
    folder = model.with_name(f"{model.name}-dataset")
    with whole_folder(folder) as out:
        for path in files:
            shutil.copyfile(path, out / path.name)
        (out / "README.md").write_text(_dataset_card(persona, files, repository), encoding="utf-8")
    return folder


def _dataset_card(persona: Persona, files: Sequence[Path], repository: str) -> str:
    from huggingface_hub import DatasetCard, DatasetCardData

    pairs = [path for path in files if path.stem.startswith("preferences-")]
    configs = [
        {
            "config_name": name,
            "data_files": [
                {"split": path.stem.removeprefix("preferences-"), "path": path.name}
                for path in group
            ],
        }
        for name, group in (
            ("examples", [path for path in files if path not in pairs]),
            ("preferences", pairs),
        )
        if group
    ]
    card = DatasetCard.from_template(
        DatasetCardData(
            language=[persona.language],
            task_categories=["text-generation"],
            pretty_name=f"{persona.name}: reviewed rows",
            tags=["persona"],
            configs=configs,
        ),
        template_path=str(Path(__file__).with_name("dataset_card.md.j2")),
        persona=persona,
        repository=repository,
        counts={path.name: len(path.read_bytes().splitlines()) for path in files},
    )
    return str(card)


def push_folders(
    model: Path, repository: str, rows: Path | None, dataset: str, *, public: bool
) -> list[str]:
    """Send the model's folder, and the rows' where there is one; return the commits' addresses.

    Raises:
        UserError: The Hub refuses, or cannot be reached.
    """
    addresses = [_push(rows, dataset, "dataset", public=public)] if rows else []
    return [_push(model, repository, "model", public=public), *addresses]


def _push(folder: Path, repository: str, kind: str, *, public: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(repository):
        api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type=kind,
            commit_message=f"{folder.name} by persona export",
            ignore_patterns=list(_LEFT_OUT),
        )
    return str(commit.commit_url)
