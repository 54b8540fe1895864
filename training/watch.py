"""What is seen of a run while it goes: progress with its loss, seconds, and losses gone bad."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.errors import UserError
from workbench.progress import Advance, track


class Watch(TrainerCallback):  # type: ignore[misc]
    """Shows the progress, stamps the log with seconds, and stops a run whose loss is no number."""

    def __init__(self, label: str, stack: ExitStack) -> None:
        self.label = label
        self._stack = stack
        self._advance: Advance | None = None
        self._note = ""
        self._started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Open the progress, at the step that a checkpoint brought."""
        logged = [entry["seconds"] for entry in state.log_history if "seconds" in entry]
        self._started = time.monotonic() - (logged[-1] if logged else 0.0)
        self._advance = self._stack.enter_context(track(self.label, state.max_steps))
        if state.global_step:
            self._advance(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the progress on."""
        if self._advance:
            self._advance(1, self._note)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the newest entry of the log, before any checkpoint of its step is written."""
        entry = state.log_history[-1]
        entry["seconds"] = round(time.monotonic() - self._started, 2)
        for name in ("loss", "grad_norm", "eval_loss"):
            value = entry.get(name)
            if value is not None and not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} at step {state.global_step}: the run has gone astray",
                    fix="lower learning_rate or raise warmup_steps in the recipe and run again",
                )
        if "loss" in entry:
            self._note = f"loss {entry['loss']:.3f}"
            if (margin := entry.get("rewards/margins")) is not None:
                self._note += f", margin {margin:.2f}"
