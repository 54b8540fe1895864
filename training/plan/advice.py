"""The smallest change to a recipe that makes its run fit a device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from training.plan.memory import Scene, parts, peak

Change = dict[str, Any]
_SHORTEST = 128
"""Tokens below which rows are not cut: what is left of an answer would teach little."""


def smallest_change(scene: Scene, memory: int) -> Change | None:
    """Return the trainer fields to set otherwise, or None if nothing makes the run fit.

    Changes are tried from the one that costs least: a smaller batch with more accumulation (the
    same result), checkpointing (the same result, a third more time), 8-bit AdamW paged to the host
    (nearly the same), shorter rows (their ends are lost). If none is enough alone, they are
    heaped up in this order.

    Args:
        scene: The run that does not fit.
        memory: Bytes that its parts may take.
    """
    kinds = [list(kind(scene)) for kind in (_smaller, _checkpointing, _optimizer, _shorter)]
    for changes in kinds:
        for change in changes:
            if _fits(scene, change, memory):
                return change
    heap: Change = {}
    for changes in kinds:
        for change in changes:
            tried = {**heap, **change}
            if _fits(scene, tried, memory):
                return tried
        heap |= changes[-1] if changes else {}
    return None


def changed(scene: Scene, change: Change) -> Scene:
    """Return the scene with trainer fields set otherwise."""
    arguments = copy.copy(scene.arguments)
    for name, value in change.items():
        setattr(arguments, name, value)
    lengths = scene.lengths
    if limit := change.get("max_length"):
        lengths = lengths.capped(limit)
    return replace(scene, arguments=arguments, lengths=lengths)


def _fits(scene: Scene, change: Change, memory: int) -> bool:
    return peak(parts(changed(scene, change))) <= memory


def _smaller(scene: Scene) -> Iterator[Change]:
    batch = scene.arguments.per_device_train_batch_size
    rows = batch * scene.arguments.gradient_accumulation_steps
    # GRPO's groups share a batch: its size follows num_generations. KTO compares rows of a batch.
    needs = {"grpo": getattr(scene.arguments, "num_generations", 1), "kto": 2}
    least = needs.get(scene.recipe.method, 1)
    while batch // 2 >= least and batch % 2 == 0:
        batch //= 2
        yield {"per_device_train_batch_size": batch, "gradient_accumulation_steps": rows // batch}


def _checkpointing(scene: Scene) -> Iterator[Change]:
    if not scene.arguments.gradient_checkpointing:
        yield {"gradient_checkpointing": True}


def _optimizer(scene: Scene) -> Iterator[Change]:
    name = str(getattr(scene.arguments.optim, "value", scene.arguments.optim))
    if scene.gpu and "adam" in name and "paged" not in name:
        yield {"optim": "paged_adamw_8bit"}


def _shorter(scene: Scene) -> Iterator[Change]:
    if scene.recipe.method == "grpo" or scene.lengths.pixels:
        return  # prompts are never cut, and an image's places cannot be
    length = 1 << (scene.lengths.longest - 1).bit_length()
    while length // 2 >= _SHORTEST:
        length //= 2
        yield {"max_length": length}
