"""`persona train --plan` and `--recipes`: what a run will cost, before it runs."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rounds.context import RoundContext
from workbench.errors import UserError

if TYPE_CHECKING:
    from training.data import Rows
    from training.plan.plan import Plan
    from training.run import Recipe
    from workbench.config import Method

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_LEAST = 1 << 20
"""Bytes below which nobody can mean a device."""


def parse_memory(text: str) -> int:
    """Return ``16GiB``, ``24g`` or ``512 MiB`` in bytes; every unit is a power of 1024.

    Raises:
        UserError: It is no size, or none of a device: a number without its unit counts bytes.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?\s*", text, re.IGNORECASE)
    size = int(float(found[1]) * 2 ** _UNITS[found[2].upper()]) if found else 0
    if size < _LEAST:
        what = f"is {size} bytes" if found else "is no size"
        raise UserError(f"'{text}' {what}", where="--device-memory", fix="such as 16GiB")
    return size


def plan_round(
    context: RoundContext,
    method: Method,
    *,
    recipe: str | None = None,
    device_memory: str | None = None,
) -> Plan:
    """Return the plan of one training stage of a round, from its real rows.

    Args:
        context: The round.
        method: The stage.
        recipe: A recipe's name or path; by default the one that the stage would take.
        device_memory: Of a GPU that is not there, such as ``16GiB``; by default the device at hand.

    Raises:
        UserError: No rows yet, a recipe with mistakes, a model whose configuration is not there.
    """
    from rounds.stages.train import load, recipe_path
    from training.plan.plan import EstimateRequest, make_plan
    from training.recipe import load_recipe
    from training.recipe import recipe_path as named_recipe
    from training.run import TrainingRun
    from workbench.inference.base_models import resolve_model

    memory = parse_memory(device_memory) if device_memory else None
    # The embedded recipes are for a processor: for a GPU that is not here its own one is meant.
    path = named_recipe(recipe or method) if recipe or memory else recipe_path(context, method)
    planned = load_recipe(path, context.config.train.overrides.get(method, {}))
    planned.require(method)
    rows = _rows(context, planned)
    run = TrainingRun(
        recipe=planned,
        model=resolve_model(context.config.model, weights=False),
        base_name=context.config.model,
        train=rows.path,
        out=context.round.stage(method),
        seed=context.config.seed,
        adapter=_adapter(context, planned),
    )
    return make_plan(EstimateRequest(run, rows, load(context, "sft").lora, memory))


def _adapter(context: RoundContext, recipe: Recipe) -> Path | None:
    """Return the adapter that a run would go on with, if it is trained: here or a round before."""
    from rounds.stages.train import start_round

    own = context.round.stage("sft") / "adapter"
    if own.is_dir() and not recipe.continues:
        return own
    stage = recipe.method if recipe.continues else "sft"
    start = start_round(context, stage)
    return start.stage(stage) / "adapter" if start else None


def _rows(context: RoundContext, recipe: Recipe) -> Rows:
    from rounds.stages.train import learning_files, training_stage
    from training.methods import read_rows

    with tempfile.TemporaryDirectory() as folder:
        for artifact in training_stage(recipe.method, context).inputs:
            path = context.round.path(artifact)
            if artifact.stage == "split" and not path.exists():
                fix = "run `persona run --until split` first"
                raise UserError("is not there yet", where=str(path), fix=fix)
        own = context.config.train.files.get(recipe.method)
        path, _ = learning_files(context.round, recipe.method, own, Path(folder))
        return read_rows(recipe, path)
