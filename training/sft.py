"""Supervised fine-tuning of an adapter: chats, instructions, images, or raw text of a domain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training.data import read_examples, read_images, read_instructions, read_texts
from training.policy import policy_of
from training.recipe import Recipe
from training.session import Parts, Task, TrainSummary, run
from workbench.inference.adapters import read_adapter

if TYPE_CHECKING:
    from trl import SFTTrainer

READERS = {
    "chat": read_examples,
    "instruction": read_instructions,
    "text": read_texts,
    "images": read_images,
}
"""A recipe's ``data`` → how its file is read."""


def train_sft(
    recipe: Recipe,
    model: Path,
    train: Path,
    validation: Path | None,
    out: Path,
    *,
    seed: int,
    base_name: str = "",
    tracker: str = "none",
    adapter: Path | None = None,
) -> TrainSummary:
    """Train an adapter on examples and write it, its curve, recipe and summary to ``out``.

    The loss is on the answers alone; on raw text, which has none, it is on every token.

    Args:
        recipe: A recipe with ``method: sft``.
        model: Folder of the base model.
        train: JSONL of :class:`workbench.records.Example`, or what the recipe's ``data`` says.
        validation: The same, for the loss while training; None for none.
        out: Folder of the run; a call that was killed goes on from its ``checkpoints/``.
        seed: Of the adapter's first weights and the order of rows.
        base_name: The base as it is written into the adapter; the folder by default.
        tracker: A word of :data:`workbench.config.TRACKERS`.
        adapter: An earlier round's, where the recipe goes on from it; stays as it is.

    Raises:
        UserError: No rows, rows of another kind, no adapter where one is named or one of another
            base, a loss that is no number, or no space left.
    """
    recipe.require("sft")
    name = base_name or str(model)
    if adapter:
        read_adapter(adapter)
    task = Task(recipe, model, name, train, validation, out, seed, adapter, tracker)
    return run(task, READERS[recipe.data], sft_trainer)


def sft_trainer(parts: Parts) -> SFTTrainer:
    """Return TRL's trainer with a fresh adapter on the base, or with the earlier one."""
    from trl import SFTTrainer

    return policy_of(parts, SFTTrainer)
