"""One training call as data, so that several processes can carry it out together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from training.recipe import Recipe
from training.run import TrainSummary
from workbench.config import Method
from workbench.inference.endpoint import Endpoint
from workbench.persona import load_persona


class Order(BaseModel):
    """What a training call is given; JSON of it holds no secret, since endpoints only name keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    recipe: Recipe
    model: Path
    """Folder of the base model."""
    adapter: Path | None = None
    """The adapter to go on with; none where the recipe makes a new one."""
    train: Path
    validation: Path | None = None
    out: Path
    seed: int
    base_name: str
    tracker: str = "none"
    persona: Path | None = None
    """Folder of the persona whose traits are rewarded; for GRPO."""
    judge: Endpoint | None = None


def carry_out(order: Order) -> TrainSummary:
    """Train as ordered, in this process.

    Raises:
        UserError: What the method says of its recipe, rows and adapter.
    """
    recipe, model, adapter = order.recipe, order.model, order.adapter
    rows = (order.train, order.validation, order.out)
    always: dict[str, Any] = {
        "seed": order.seed,
        "base_name": order.base_name,
        "tracker": order.tracker,
    }
    if order.method == "sft":
        from training.sft import train_sft

        return train_sft(recipe, model, *rows, adapter=adapter, **always)
    if order.method == "dpo":
        from training.dpo import train_dpo

        assert adapter is not None
        return train_dpo(recipe, model, adapter, *rows, **always)
    if order.method == "grpo":
        from training.grpo import train_grpo

        assert order.persona is not None
        always |= {"persona": load_persona(order.persona), "judge": order.judge}
        return train_grpo(recipe, model, adapter, *rows, **always)
    from training.kto import train_kto

    return train_kto(recipe, model, adapter, *rows, **always)
