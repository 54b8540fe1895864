"""Among processes that train together: who writes, who waits, and the weights put together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def rank() -> int:
    """Return this process's number among those that train together; 0 for one alone."""
    return int(os.environ.get("RANK", "0"))


def is_writer() -> bool:
    """Return whether this process writes the run's files."""
    return rank() == 0


def together() -> bool:
    """Return whether other processes train with this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if together():
        from accelerate import PartialState

        PartialState().wait_for_everyone()


@contextmanager
def writer_first() -> Iterator[None]:
    """Let the process that writes go through the block before the others do."""
    if not is_writer():
        wait_for_all()
    yield
    if is_writer():
        wait_for_all()


def whole_weights(trainer: Any) -> dict[str, Any] | None:
    """Return the weights that FSDP or DeepSpeed has shared out, put together on the processor.

    Every process has to call it. None where each process holds the whole model.
    """
    if getattr(trainer, "is_fsdp_enabled", False):
        weights: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model)
        return weights
    if getattr(trainer, "is_deepspeed_enabled", False):
        weights = trainer.accelerator.get_state_dict(trainer.deepspeed)
        return weights
    return None
