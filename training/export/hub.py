"""The Hub: folders with cards that link to each other, sent only when somebody asked for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from training.export.licences import Licence
from training.export.source import check_name
from workbench.errors import UserError
from workbench.inference.hub import hub_errors
from workbench.persona import Persona
from workbench.store import whole_folder

_SIDES = ("train", "validation", "test")
_LEFT_OUT = ("gate.json",)
"""Files of an export that mean nothing away from this machine."""


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

    Args:
        split: Folder of the round's split.
        persona: Whose they are.
        model: Folder of the model's export; the rows' folder lies beside it.
        repository: The model's name on the Hub.

    Raises:
        UserError: The round was not split.
    """
    found = [
        path
        for side in (*_SIDES, *(f"preferences-{side}" for side in _SIDES))
        if (path := split / f"{side}.jsonl").exists() and path.stat().st_size
    ]
    if not found:
        raise UserError("the round has no split rows", where=str(split))
    folder = model.with_name(f"{model.name}-dataset")
    with whole_folder(folder) as out:
        for path in found:
            shutil.copyfile(path, out / path.name)
        (out / "README.md").write_text(_dataset_card(persona, found, repository), encoding="utf-8")
    return folder


def _dataset_card(persona: Persona, files: Sequence[Path], repository: str) -> str:
    rows = [path for path in files if not path.stem.startswith("preferences-")]
    pairs = [path for path in files if path not in rows]
    configs = [
        {
            "config_name": name,
            "data_files": [
                {"split": path.stem.removeprefix("preferences-"), "path": path.name}
                for path in group
            ],
        }
        for name, group in (("examples", rows), ("preferences", pairs))
        if group
    ]
    head = {
        "language": [persona.language],
        "task_categories": ["text-generation"],
        "pretty_name": f"{persona.name}: reviewed rows",
        "tags": ["persona"],
        "configs": configs,
    }
    counts = "\n".join(
        f"| `{path.name}` | {len(path.read_text(encoding='utf-8').splitlines())} |"
        for path in files
    )
    return (
        f"---\n{yaml.safe_dump(head, allow_unicode=True, sort_keys=False)}---\n\n"
        f"# {persona.name}: reviewed rows\n\n"
        f"The rows that [{repository}](https://huggingface.co/{repository}) was trained and"
        f" tested with, after review; persona version {persona.version}.\n\n"
        f"| File | Rows |\n| --- | --- |\n{counts}\n\n"
        "Whole groups of like questions are on one side each. Where a teacher wrote rows, its\n"
        "terms decide whether they may be passed on: check them before you publish.\n"
    )


def push_folders(
    model: Path, repository: str, rows: Path | None, dataset: str, *, public: bool
) -> list[str]:
    """Send the model's folder, and the rows' where there is one; return the commits' addresses.

    Raises:
        UserError: The Hub refuses, or cannot be reached.
    """
    sent = [_push(rows, dataset, "dataset", public=public)] if rows else []
    return [_push(model, repository, "model", public=public), *sent]


def _push(folder: Path, repository: str, kind: str, *, public: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(repository):
        api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type=kind,
            commit_message=f"{folder.name} by persona export",
            ignore_patterns=list(_LEFT_OUT),
        )
    return str(done.commit_url)
