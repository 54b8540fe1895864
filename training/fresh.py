"""New adapters on a base: LoRA and its kinds, OSF, LoRA+'s optimizer, PiSSA's way to plain LoRA."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import Trainer

PISSA_START = "pissa-start"
"""Folder, beside the checkpoints, of a PiSSA adapter as it was before the first step."""


def adapter_config(recipe: Recipe) -> PeftConfig:
    """Return PEFT's configuration of the recipe's new adapter."""
    from peft import LoraConfig, OSFConfig

    if recipe.osf is not None:
        return OSFConfig(task_type="CAUSAL_LM", **recipe.osf)
    return LoraConfig(task_type="CAUSAL_LM", **(recipe.lora or {}))


def starts_from_pissa(recipe: Recipe) -> bool:
    """Whether the adapter takes the base's principal components out of it (arXiv 2404.02948)."""
    return str((recipe.lora or {}).get("init_lora_weights", "")).startswith("pissa")


def keep_pissa_start(model: Any, checkpoints: Path) -> None:
    """Write the untrained PiSSA adapter, unless a run that was killed has written it already."""
    from peft import PeftModel

    assert isinstance(model, PeftModel)
    folder = checkpoints / PISSA_START
    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary, save_embedding_layers=False)
    temporary.rename(folder)


def keep_float32(model: Any, source: str = "") -> None:
    """Put the trainable weights back into float32, which TRL rounds to bfloat16 for 4-bit bases.

    bfloat16 holds 8 bits of a number, so that an update of AdamW at DPO's learning rates is
    smaller than half the distance to the next weight, and is lost.

    Args:
        model: The trainer's model.
        source: Name of a frozen copy of the adapter to take unrounded values from.
    """
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if weight.requires_grad:
            exact = weights[name.replace(".default.", f".{source}.")] if source else weight
            weight.data = exact.data.detach().clone().float()


def use_loraplus(trainer: Trainer, loraplus: dict[str, Any]) -> None:
    """Give the trainer LoRA+'s optimizer: B learns ``loraplus_lr_ratio`` times as fast as A.

    The ratio is of https://arxiv.org/abs/2402.12354; the class and its arguments are those that
    the recipe's ``optim`` names.
    """
    from peft.optimizers import create_loraplus_optimizer

    cls, arguments = type(trainer).get_optimizer_cls_and_kwargs(trainer.args)
    decay = trainer.args.weight_decay
    trainer.optimizer = create_loraplus_optimizer(
        trainer.model, cls, loraplus_weight_decay=decay, **arguments, **loraplus
    )
