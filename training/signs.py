"""Signs that a run goes wrong although every number is finite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from training.rewards import DISTINCT, HELD_OUT, REWARDED
from workbench.errors import UserError

WARN_AFTER = 3
"""Logged steps in a row that show a sign before it is told."""
STOP_AFTER = 12
"""Steps in a row without any variance of the rewards that end a run: none of them taught."""
EXPLODED = 2.0
"""Times the size of the lowest loss so far, plus one: a loss that much above it is exploding."""
HACKED = 0.1
"""Rise of the rewarded traits, and fall of those held out, that look like a hacked reward."""


class Signs:
    """Counts how many logged steps in a row show each sign."""

    def __init__(self) -> None:
        self._row: Counter[str] = Counter()
        self._lowest: float | None = None

    def of(self, entry: dict[str, Any], step: int) -> Iterator[str]:
        """Yield what there is to warn of.

        Raises:
            UserError: The loss explodes, the completions have collapsed, or the rewards have had
                no variance for :data:`STOP_AFTER` steps.
        """
        # GRPO's loss is about 0 by construction and says nothing; its rewards do.
        if "loss" in entry and "reward" not in entry:
            self._loss(entry["loss"], step)
        if (count := self._rows("flat", entry.get("frac_reward_zero_std") == 1, entry)) is not None:
            if count >= STOP_AFTER:
                raise UserError(
                    f"the rewards had no variance for {count} steps up to step {step}, so that"
                    " nothing was learnt",
                    fix="reward traits that some of the model's answers show and others do not,"
                    " raise temperature or num_generations, or train SFT first",
                )
            if count >= WARN_AFTER:
                yield (
                    f"all answers to a prompt got the same reward for {WARN_AFTER} steps in a row:"
                    " such steps teach nothing; raise temperature or num_generations, or reward"
                    " other traits"
                )
        same = entry.get(DISTINCT) == 0 or entry.get("completions/mean_length") == 0
        if (self._rows("same", same, entry) or 0) >= WARN_AFTER:
            raise UserError(
                f"the completions have collapsed: all of them are one text, {WARN_AFTER} steps in a"
                f" row up to step {step}",
                fix="lower learning_rate, or give beta: 0.04 to hold the policy near its start",
            )

    def _rows(self, sign: str, shown: bool, entry: dict[str, Any]) -> int | None:
        """Return how many rewarded steps in a row show the sign; None for other entries."""
        if "reward" not in entry:
            return None
        self._row[sign] = self._row[sign] + 1 if shown else 0
        return self._row[sign]

    def _loss(self, loss: float, step: int) -> None:
        lowest = self._lowest if self._lowest is not None else loss
        # Of its size: some losses of DPO, such as the robust one, fall below 0.
        far = loss - lowest > EXPLODED * abs(lowest) + 1
        self._row["loss"] = self._row["loss"] + 1 if far else 0
        self._lowest = min(lowest, loss)
        if self._row["loss"] >= WARN_AFTER:
            raise UserError(
                f"the loss explodes: {loss:.3g} at step {step}, after {lowest:.3g} at its lowest",
                fix="lower learning_rate or raise warmup_steps in the recipe and run again",
            )

    def hacked(self, history: Sequence[dict[str, Any]]) -> str:
        """Return a warning if the rewarded traits rose while those held out fell, else ''."""
        moved = {name: _moved([e[name] for e in history if name in e]) for name in _WATCHED}
        rewarded, held_out = (moved[name] for name in _WATCHED)
        if rewarded < HACKED or held_out > -HACKED:
            return ""
        return (
            f"the rewarded traits rose by {rewarded:.2f} while those held out fell by"
            f" {-held_out:.2f}: the reward may be hacked; read the answers before you trust it"
        )


_WATCHED = (REWARDED, HELD_OUT)


def _moved(values: Sequence[float]) -> float:
    """Return the mean of the last third less that of the first; 0 for fewer than 3 values."""
    third = len(values) // 3
    return sum(values[-third:]) / third - sum(values[:third]) / third if third else 0.0
