"""Supervised fine-tuning of an adapter, on the answers alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training.data import read_examples
from training.recipe import Recipe
from training.session import Parts, Task, TrainSummary, keep_float32, run

if TYPE_CHECKING:
    from trl import SFTTrainer


def train_sft(
    recipe: Recipe,
    model: Path,
    train: Path,
    validation: Path | None,
    out: Path,
    *,
    seed: int,
    base_name: str = "",
) -> TrainSummary:
    """Train an adapter on examples and write it, its curve, recipe and summary to ``out``.

    Args:
        recipe: A recipe with ``method: sft``.
        model: Folder of the base model.
        train: JSONL of :class:`workbench.records.Example`.
        validation: The same, for the loss while training; None for none.
        out: Folder of the run; a call that was killed goes on from its ``checkpoints/``.
        seed: Of the adapter's first weights and the order of rows.
        base_name: The base as it is written into the adapter; the folder by default.

    Raises:
        UserError: No rows, a loss that is no number, or no space left.
    """
    recipe.require("sft")
    task = Task(recipe, model, base_name or str(model), train, validation, out, seed)
    return run(task, read_examples, sft_trainer)


def sft_trainer(parts: Parts) -> SFTTrainer:
    """Return TRL's trainer with a fresh adapter on the base."""
    from peft import LoraConfig
    from trl import SFTTrainer

    lora = LoraConfig(task_type="CAUSAL_LM", **(parts.task.recipe.lora or {}))
    trainer = SFTTrainer(model=parts.model, peft_config=lora, **parts.trainer_inputs())
    keep_float32(trainer.model)
    return trainer
