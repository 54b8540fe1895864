"""What is seen of a run while it goes: progress with its loss, and what goes wrong, in words."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.signs import Signs
from workbench.console import Advance, console, track
from workbench.errors import UserError, nearest
from workbench.meter import trim_heap


class Watch(TrainerCallback):  # type: ignore[misc]
    """Shows the progress, stamps the log with seconds, warns, and stops a run that went astray."""

    def __init__(self, label: str, stack: ExitStack) -> None:
        self.label = label
        self.warnings: list[str] = []
        self._stack = stack
        self._advance: Advance | None = None
        self._note = ""
        self._started = 0.0
        self._tokens = 0
        self._signs = Signs()

    def warn(self, text: str) -> None:
        """Say something once, now and in the summary."""
        if text not in self.warnings:
            self.warnings.append(text)
            console.print(f"  {text}")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Open the progress, at the step that a checkpoint brought."""
        logged = [entry["seconds"] for entry in state.log_history if "seconds" in entry]
        self._started = time.monotonic() - (logged[-1] if logged else 0.0)
        # A run that goes on also goes on with what was seen and warned of before it was killed.
        for entry in state.log_history:
            self._tokens = max(self._tokens, entry.get("num_tokens", 0))
            self._look(entry, entry["step"])
        self._advance = self._stack.enter_context(track(self.label, state.max_steps))
        if state.global_step:
            self._advance(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the progress on, and let no holes of the heap grow from step to step."""
        if state.global_step >= state.max_steps or control.should_save:
            # What is not logged is not looked at, and no weights are kept unseen.
            control.should_log = True
        if args.use_cpu:
            trim_heap()
        if self._advance:
            self._advance(1, self._note)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the loss before a checkpoint of every epoch, too."""
        control.should_log |= control.should_save

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the newest entry of the log, before any checkpoint of its step is written."""
        entry = state.log_history[-1]
        entry["seconds"] = round(time.monotonic() - self._started, 2)
        self._count_on(entry)
        # In float16 the loss is scaled until its gradient overflows; such a step is skipped.
        looked_at = ("loss", "eval_loss") if args.fp16 else ("loss", "grad_norm", "eval_loss")
        for name in looked_at:
            value = entry.get(name)
            if value is not None and not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} at step {state.global_step}: the run has gone astray",
                    fix="lower learning_rate or raise warmup_steps in the recipe and run again",
                )
        self._look(entry, state.global_step)
        if "loss" in entry:
            shown = {"loss": "loss", "reward": "reward", "rewards/margins": "margin"}
            self._note = ", ".join(
                f"{word} {entry[name]:.3f}"
                for name, word in shown.items()
                if entry.get(name) is not None
            )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        """Tell a metric to judge by that is not measured."""
        name = args.metric_for_best_model
        measured = [key.removeprefix("eval_") for key in metrics]
        if name is not None and name.removeprefix("eval_") not in measured:
            raise UserError(
                f"trainer.metric_for_best_model is {name}, which no evaluation measures",
                fix=nearest(name, measured) or f"one of {', '.join(measured)}",
            )

    def _look(self, entry: dict[str, Any], step: int) -> None:
        for text in self._signs.of(entry, step):
            self.warn(text)

    def _count_on(self, entry: dict[str, Any]) -> None:
        """Add the tokens of the calls before, which TRL's trainers for SFT, DPO and KTO forget."""
        for name in ("num_tokens", "eval_num_tokens"):
            # GRPO's count is a part of the state that is read back.
            if name in entry and "reward" not in entry and "eval_reward" not in entry:
                entry[name] += self._tokens

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say what only the whole curve shows."""
        if state.global_step < state.max_steps:
            best = f" of {state.best_metric:.3f}" if state.best_metric is not None else ""
            self.warn(
                f"stopped early after step {state.global_step} of {state.max_steps}:"
                f" {args.metric_for_best_model} has not got better than its best{best} any more"
            )
        if text := self._signs.hacked(state.log_history):
            self.warn(text)
