"""The policy of DPO, GRPO and KTO: the SFT adapter that goes on, or a new one on the base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from training.adapter_init import adapter_config, keep_float32
from training.session import Parts
from workbench.inference.adapters import load_adapter

T = TypeVar("T")


def policy_of(parts: Parts, trainer_class: Callable[..., T], **more: Any) -> T:
    """Return TRL's trainer on the recipe's new adapter, else on the SFT adapter.

    Where the trainer needs a reference, it is a frozen copy of the SFT adapter on the one base in
    memory, or the bare base where the adapter is new.

    Args:
        parts: Of the run.
        trainer_class: TRL's trainer.
        more: Its arguments beside those that all trainers share.

    Raises:
        UserError: No adapter to go on with, or one of another base.
    """
    task = parts.task
    if task.recipe.fresh:
        config = adapter_config(task.recipe)
        # Unsloth has put the adapter on already.
        named = {} if hasattr(parts.model, "peft_config") else {"peft_config": config}
        trainer: Any = trainer_class(model=parts.model, **named, **parts.trainer_inputs(), **more)
        keep_float32(trainer.model)
        return trainer  # type: ignore[no-any-return]
    assert task.sft_adapter is not None
    policy = load_adapter(parts.model, task.sft_adapter, task.base_name)
    trainer = trainer_class(model=policy, **parts.trainer_inputs(), **more)
    # TRL copies the adapter as "ref" before it rounds the policy: take the exact values back.
    # Without a reference they are read from the file again.
    if "ref" in trainer.model.peft_config:
        keep_float32(trainer.model, source="ref")
    else:
        reload_float32(trainer.model, task.sft_adapter)
    return trainer  # type: ignore[no-any-return]


def reload_float32(model: Any, adapter: Any) -> None:
    """Put the adapter's weights back as the file holds them, in float32."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from workbench.inference.adapters import WEIGHTS

    keep_float32(model)
    set_peft_model_state_dict(model, load_file(adapter / WEIGHTS))
