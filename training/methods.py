"""The training methods: what each has of its own, in one table; all else they share.

The recipe's checks, the plan and the trainer ask here by a method's name. CONTRIBUTING tells what a
new method takes beside its row of the table.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from training.data import (
    NAME,
    Row,
    Rows,
    every_answer,
    read_demonstrations,
    read_examples,
    read_images,
    read_instructions,
    read_preferences,
    read_prompts,
    read_texts,
    read_unpaired,
)
from training.grpo import RewardHooks
from training.run import Data, MethodHooks, Recipe
from training.self_distillation import DemonstrationHooks
from workbench.config import Method
from workbench.errors import UserError

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

# That these may change is why each is known in one place; a user can do nothing about it.
warnings.filterwarnings("ignore", "You are importing from 'trl.experimental'")


@dataclass(frozen=True)
class TrainingMethod:
    """One method, by the names that TRL gives its parts."""

    config: str
    """Name of its configuration class in ``trl``, such as ``experimental.orpo.ORPOConfig``."""
    trainer: str
    """Name of its trainer class in ``trl``."""
    readers: Mapping[Data, Callable[[Path], Iterator[Row]]]
    """A recipe's ``data`` → how a file of such rows is read."""
    losses: tuple[str, ...] = ()
    """What ``loss_type`` may say, where TRL checks it late, in the first step, or not at all."""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What other fields may say that TRL types as any text and checks as late."""
    hooks: type[MethodHooks] = MethodHooks

    def config_class(self) -> type[TrainingArguments]:
        """Return TRL's configuration class."""
        config: type[TrainingArguments] = resolve_name(f"trl.{self.config}")
        return config

    def trainer_class(self) -> type[Trainer]:
        """Return TRL's trainer class."""
        trainer: type[Trainer] = resolve_name(f"trl.{self.trainer}")
        return trainer


TRAINING_METHODS: Mapping[Method, TrainingMethod] = {
    # The loss is on the answers alone; on raw text, which has none, it is on every token.
    "sft": TrainingMethod(
        "SFTConfig",
        "SFTTrainer",
        {
            "chat": read_examples,
            "instruction": read_instructions,
            "text": read_texts,
            "images": read_images,
        },
    ),
    # https://arxiv.org/abs/2305.18290, equation 7. The reference is the SFT adapter itself: a
    # frozen second adapter on the one base in memory, or, with precompute_ref_log_probs, its
    # log-probabilities of every row, taken once before the first step. So the loss starts at ln 2.
    "dpo": TrainingMethod(
        "DPOConfig",
        "DPOTrainer",
        {"chat": read_preferences},
        losses=(
            *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard"),
            *("aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
        ),
    ),
    # https://arxiv.org/abs/2402.03300, section 4.1: several completions a prompt, each one's
    # advantage being its reward among them.
    "grpo": TrainingMethod(
        "GRPOConfig",
        "GRPOTrainer",
        {"chat": read_prompts},
        losses=("grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
        words={"multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum")},
        hooks=RewardHooks,
    ),
    # https://arxiv.org/abs/2402.01306, equation 8; the reference is the SFT adapter.
    "kto": TrainingMethod(
        "KTOConfig", "KTOTrainer", {"chat": read_unpaired}, losses=("kto", "apo_zero_unpaired")
    ),
    # https://arxiv.org/abs/2601.19897: the base without the adapter, which reads the reviewed
    # answer, is the teacher of the student's own samples.
    "sdft": TrainingMethod(
        "experimental.sdft.SDFTConfig",
        "experimental.sdft.SDFTTrainer",
        {"chat": read_demonstrations},
        words={"teacher_model_kind": ("base", "live", "ema")},
        hooks=DemonstrationHooks,
    ),
}


def read_rows(recipe: Recipe, path: Path) -> Rows:
    """Return the rows of a file, as a recipe's method and ``data`` have them.

    With ``assistant_only_loss`` each answer of a conversation is a row of its own, the earlier ones
    too; by default only the last, which is the one that people judged.

    Raises:
        UserError: Unreadable file, a line of another kind, or no rows at all.
    """
    read = TRAINING_METHODS[recipe.method].readers[recipe.data](path)
    rows = tuple(every_answer(read) if recipe.trainer.get("assistant_only_loss") else read)
    if not rows:
        fix = "look at what the review and the split left over"
        raise UserError("has no rows to train on", where=str(path), fix=fix)
    names = tuple(row.pop(NAME, f"row {number}") for number, row in enumerate(rows, 1))
    return Rows(path, rows, names)
