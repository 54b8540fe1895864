"""Rows with images, for models that read both: the persona's rows name files beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.data import Rows, prompt_completion, some
from workbench.errors import UserError
from workbench.records import Example
from workbench.store import read_records


def read_images(path: Path) -> Rows:
    """Return prompt-completion rows with an ``images`` list; TRL puts them into the first turn.

    Raises:
        UserError: Unreadable file, a line that is no example, a row without images or with one
            that is not there, or no rows at all.
    """
    rows = []
    for number, example in enumerate(read_records(path, Example), 1):
        if not example.images:
            raise UserError(
                "has no images, and the recipe's data are images",
                where=f"{path}:{number}",
                fix="name files under 'images', or train with data: chat",
            )
        files = [path.parent / name for name in example.images]
        if missing := next((file for file in files if not file.is_file()), None):
            raise UserError(
                f"names {missing.name}, which is not there",
                where=f"{path}:{number}",
                fix="put the image beside the file of rows",
            )
        rows.append({**prompt_completion(example), "images": [str(file) for file in files]})
    return some(path, tuple(rows))


def load_processor(folder: Path) -> Any:
    """Return the model's processor of text and images.

    Raises:
        UserError: The model reads no images, or has no chat template.
    """
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    if getattr(processor, "image_processor", None) is None:
        raise UserError(
            "the base model reads no images",
            where=str(folder),
            fix="use a vision model, or a recipe without data: images",
        )
    if processor.chat_template is None:
        raise UserError(
            "the base model has no chat template",
            where=str(folder),
            fix="use an instruct model, or add chat_template.jinja to the folder",
        )
    return processor
