"""Direct preference optimization, going on from the SFT adapter with a frozen copy as reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training.data import read_preferences
from training.policy import policy_of
from training.recipe import Recipe
from training.session import Parts, Task, TrainSummary, run

if TYPE_CHECKING:
    from trl import DPOTrainer


def train_dpo(
    recipe: Recipe,
    model: Path,
    sft_adapter: Path,
    train: Path,
    validation: Path | None,
    out: Path,
    *,
    seed: int,
    base_name: str = "",
    tracker: str = "none",
) -> TrainSummary:
    """Train the SFT adapter further on preference pairs and write it to ``out``.

    The reference is the SFT adapter itself: a frozen second adapter on the one base in memory, or,
    with ``precompute_ref_log_probs: true``, its log-probabilities of every row, taken once before
    the first step (cheaper from the second epoch on). So the loss starts at ln 2
    (https://arxiv.org/abs/2305.18290, equation 7, with equal policies).

    Args:
        recipe: A recipe with ``method: dpo``.
        model: Folder of the base model.
        sft_adapter: The adapter folder that :func:`training.sft.train_sft` wrote; stays as it is.
        train: JSONL of :class:`workbench.records.Preference`.
        validation: The same, for loss and margins while training; None for none.
        out: Folder of the run; a call that was killed goes on from its ``checkpoints/``.
        seed: Of the order of rows.
        base_name: The base as it is written into the adapter; the folder by default.
        tracker: A word of :data:`workbench.config.TRACKERS`.

    Raises:
        UserError: No rows, an adapter of another base, a loss that is no number, no space left.
    """
    recipe.require("dpo")
    name = base_name or str(model)
    task = Task(recipe, model, name, train, validation, out, seed, sft_adapter, tracker)
    return run(task, read_preferences, dpo_trainer)


def dpo_trainer(parts: Parts) -> DPOTrainer:
    """Return TRL's trainer with the SFT adapter to train and a frozen copy as reference."""
    from trl import DPOTrainer

    return policy_of(parts, DPOTrainer)
