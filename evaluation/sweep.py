"""What a sweep or a bake-off found: every training, the best one against the recipe as it is.

In: losses on the validation rows, row by row. Out: :class:`SweepReport`, whose words the commands
print and the report shows. ``rounds/sweep.py`` makes the trainings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from workbench.stats import Difference
from workbench.values import Frozen


class SweepTrial(Frozen):
    """One training: what it changed, and how surprising the validation answers are to it."""

    changes: dict[str, Any]
    """Recipe key → value, or ``model`` → base."""
    loss: float | None = None
    """Nats a hundred characters of the validation rows' answers, the mean over rows; None of one
    that was stopped as hopeless."""
    base_loss: float | None = None
    """The same of its base before training."""
    by_row: dict[str, float] = Field(default_factory=dict)
    """Validation row → its loss."""
    gain: Difference | None = None
    """By how much its loss lies below the reference's, row by row; None of the reference itself and
    of one that was stopped."""
    stopped_at: int = 0
    """Step at which it was stopped; 0 of one that went to its end."""
    seconds: float = 0.0


class SweepReport(Frozen):
    """All trainings, the best first: the content of ``sweep.json``."""

    method: str
    rows: int
    """Validation rows, which decided."""
    trials: tuple[SweepTrial, ...]
    reference: dict[str, Any]
    """Changes of the training that the best is held against: the recipe as it is, or the first
    base."""

    @property
    def gain(self) -> Difference | None:
        """By how much the best's loss lies below the reference's; None where they are one."""
        return self.best.gain

    @property
    def best(self) -> SweepTrial:
        """The training with the least loss."""
        return self.trials[0]

    @property
    def is_sure(self) -> bool:
        """Whether the best is surely better than the reference."""
        return self.gain is not None and self.gain.excludes_zero and self.gain.mean > 0

    @property
    def advice(self) -> str:
        """One line: what to take, with its interval."""
        best, reference = (label(one) for one in (self.best.changes, self.reference))
        if self.gain is None:
            return f"keep {reference}: nothing that was tried has a lower loss"
        low, high = (0.0 if end is None else end for end in (self.gain.low, self.gain.high))
        lead = (
            f"{self.gain.mean:.2f} nats a hundred characters less (95% interval {low:.2f} to"
            f" {high:.2f}, {self.gain.pairs} validation rows) than {reference}"
        )
        if self.is_sure:
            count = sum(one.loss is not None for one in self.trials)
            return f"take {best}: {lead}; the best of {count}, so a little flattered"
        return f"keep {reference}: {best} has {lead}, which chance may explain"


def label(changes: Mapping[str, Any]) -> str:
    """Return how a training is called by what it changes, such as ``lora.r=8``."""
    return ", ".join(f"{key}={value}" for key, value in changes.items())
