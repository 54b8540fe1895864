"""Arms: the ways to answer that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""Only safetensors: the older .bin is a pickle, which may run code when it is opened."""


@dataclass(frozen=True)
class Arm:
    """One way to answer: a model, with or without an adapter and a system prompt.

    Attributes:
        name: What responses and scores are filed under, such as ``sft``.
        adapter: Folder of a PEFT adapter made for the model, or None for the model itself.
        system: System prompt put before every prompt, or None to leave prompts as they are.
        model: Folder of a model in place of the round's base.
        endpoint: Where it is served instead; then there is no adapter and no folder.
    """

    name: str
    adapter: Path | None = None
    system: str | None = None
    model: Path | None = None
    endpoint: Endpoint | None = None


def check_arms(arms: Sequence[Arm]) -> None:
    """Check names and adapters' files, before any model is loaded.

    Raises:
        UserError: No arm, a name given twice, or a folder without an adapter.
    """
    names = [arm.name for arm in arms]
    if not names or len(set(names)) < len(names):
        raise UserError(f"arms need different names, got {names}", fix="name each arm once")
    for arm in arms:
        files = ADAPTER_FILES if arm.adapter else ()
        if arm.adapter and (missing := [n for n in files if not (arm.adapter / n).exists()]):
            raise UserError(
                f"no adapter there for arm '{arm.name}' ({', '.join(missing)} missing)",
                where=str(arm.adapter),
                fix="train it first, or name a folder saved by PEFT as safetensors",
            )
