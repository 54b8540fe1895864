"""Kahneman-Tversky optimization: thumbs up and down, without pairs, from the SFT adapter on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training.data import read_thumbs
from training.policy import policy_of
from training.recipe import Recipe
from training.session import Parts, Task, TrainSummary, run

if TYPE_CHECKING:
    from trl import KTOTrainer


def train_kto(
    recipe: Recipe,
    model: Path,
    sft_adapter: Path | None,
    train: Path,
    validation: Path | None,
    out: Path,
    *,
    seed: int,
    base_name: str = "",
    tracker: str = "none",
) -> TrainSummary:
    """Train on answers that reviewers took or turned down, each on its own.

    The loss is equation 8 of https://arxiv.org/abs/2402.01306; the reference is the SFT adapter.

    Args:
        recipe: A recipe with ``method: kto``; with a new adapter of its own it starts at the base.
        model: Folder of the base model.
        sft_adapter: The adapter to go on with; not looked at where the recipe makes a new one.
        train: JSONL of :class:`workbench.records.Thumb`, some up and some down.
        validation: The same, for the loss while training; None for none.
        out: Folder of the run; a call that was killed goes on from its ``checkpoints/``.
        seed: Of the order of rows.
        base_name: The base as it is written into the adapter; the folder by default.
        tracker: A word of :data:`workbench.config.TRACKERS`.

    Raises:
        UserError: No rows, thumbs of one kind alone, an adapter of another base, no space left.
    """
    recipe.require("kto")
    adapter = None if recipe.fresh else sft_adapter
    name = base_name or str(model)
    task = Task(recipe, model, name, train, validation, out, seed, adapter, tracker)
    return run(task, read_thumbs, kto_trainer)


def kto_trainer(parts: Parts) -> KTOTrainer:
    """Return TRL's trainer."""
    from trl import KTOTrainer

    return policy_of(parts, KTOTrainer)
