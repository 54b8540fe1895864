"""What is seen of a run while it goes: progress, training health in words, and trackers.

In: the trainer's log. Out: lines for people, warnings for the summary, and an error that ends a run
gone astray. ``training/trainer.py`` puts :class:`TrainingMonitor` into the trainer's callbacks.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.device import is_writer
from training.rewards import DISTINCT, HELD_OUT, REWARDED
from training.trl_patches import add_earlier_tokens, move_trackio
from workbench.config import TRACKERS
from workbench.console import Advance, console, track
from workbench.errors import UserError, nearest
from workbench.inference.hub import environment
from workbench.meter import trim_heap

WARN_AFTER = 3
"""Logged steps in a row that show a sign before it is told."""
STOP_AFTER = 12
"""Steps in a row without any variance of the rewards that end a run: none of them taught."""
_TRIMMED_EVERY = 8
"""Steps after which freed memory goes back. The next step then touches all of its memory anew: of
``sft-embedded`` in float32 that is 400 000 page faults, 1 s of a core's 8."""
EXPLODED = 2.0
"""Times the size of the lowest loss so far, plus one: a loss that much above it is exploding."""
HACKED = 0.1
"""Rise of the rewarded traits, and fall of those held out, that look like a hacked reward."""


class TrainingHealth:
    """Counts how many logged steps in a row show each sign."""

    def __init__(self) -> None:
        self._row: Counter[str] = Counter()
        self._lowest: float | None = None

    def warnings(self, entry: dict[str, float], step: int) -> Iterator[str]:
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

    def _rows(self, sign: str, seen: bool, entry: dict[str, float]) -> int | None:
        """Return how many rewarded steps in a row show the sign; None for other entries."""
        if "reward" not in entry:
            return None
        self._row[sign] = self._row[sign] + 1 if seen else 0
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

    def hacked(self, history: Sequence[dict[str, float]]) -> str:
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


class TrainingMonitor(TrainerCallback):  # type: ignore[misc]
    """Shows the progress, stamps the log with seconds, warns, and stops a run that went astray."""

    def __init__(self, label: str, stack: ExitStack, curve: Path | None = None) -> None:
        self.label = label
        self._curve = curve
        self.warnings: list[str] = []
        self._stack = stack
        self._advance: Advance | None = None
        self._note = ""
        self._started = 0.0
        self._tokens = 0
        self._health = TrainingHealth()

    def warn(self, text: str) -> None:
        """Say something once, now and in the summary."""
        if text not in self.warnings:
            self.warnings.append(text)
            console.print(f"  {text}")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Open the progress, at the step that a checkpoint brought."""
        logged = [entry["seconds"] for entry in state.log_history if "seconds" in entry]
        self._started = time.monotonic() - (logged[-1] if logged else 0.0)
        # A run that goes on also goes on with what was seen and warned of before it was killed.
        for entry in state.log_history:
            self._tokens = max(self._tokens, entry.get("num_tokens", 0))
            self._look(entry, entry["step"])
        self._publish(state.log_history, "w")
        self._advance = self._stack.enter_context(track(self.label, state.max_steps))
        if state.global_step:
            self._advance(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Move the progress on, and let no holes of the heap grow from step to step."""
        if state.global_step >= state.max_steps or control.should_save:
            # What is not logged is not looked at, and no weights are kept unseen.
            control.should_log = True
        if args.use_cpu and state.global_step % _TRIMMED_EVERY == 0:
            trim_heap()
        if self._advance:
            self._advance(1, self._note)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Look at the loss before a checkpoint of every epoch, too."""
        control.should_log |= control.should_save

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Look at the newest entry of the log, before any checkpoint of its step is written."""
        entry = state.log_history[-1]
        entry["seconds"] = round(time.monotonic() - self._started, 2)
        add_earlier_tokens(entry, self._tokens)
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
        self._publish([entry], "a")
        if "loss" in entry:
            names = {"loss": "loss", "reward": "reward", "rewards/margins": "margin"}
            self._note = ", ".join(
                f"{word} {entry[name]:.3f}"
                for name, word in names.items()
                if entry.get(name) is not None
            )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: object,
    ) -> None:
        """Tell a metric to judge by that is not measured."""
        name = args.metric_for_best_model
        measured = [key.removeprefix("eval_") for key in metrics]
        if name is not None and name.removeprefix("eval_") not in measured:
            raise UserError(
                f"trainer.metric_for_best_model is {name}, which no evaluation measures",
                fix=nearest(name, measured) or f"one of {', '.join(measured)}",
            )

    def _publish(self, entries: Sequence[dict[str, float]], mode: Literal["w", "a"]) -> None:
        """Write the curve as it grows, for whoever watches; the whole one replaces it at the end.

        A curve that cannot be written must not stop the training that it is of.
        """
        if self._curve and is_writer():
            with suppress(OSError), self._curve.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)

    def _look(self, entry: dict[str, float], step: int) -> None:
        for text in self._health.warnings(entry, step):
            self.warn(text)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Say what only the whole curve shows."""
        if state.global_step < state.max_steps:
            best = f" of {state.best_metric:.3f}" if state.best_metric is not None else ""
            self.warn(
                f"stopped early after step {state.global_step} of {state.max_steps}:"
                f" {args.metric_for_best_model} has not got better than its best{best} any more"
            )
        if text := self._health.hacked(state.log_history):
            self.warn(text)


FOLDER = "tracking"
"""Beside the run's folder: the files of a tracker name machine and time, and are no result."""
_ONLINE = {"wandb-online": "wandb"}


def report_to(tracker: str) -> str:
    """Return the name of transformers' integration for a tracker's word.

    Raises:
        UserError: An unknown word, or a tracker that is not installed.
    """
    if tracker not in TRACKERS:
        fix = nearest(tracker, TRACKERS) or f"one of {', '.join(TRACKERS)}"
        raise UserError(f"there is no tracker '{tracker}'", fix=fix)
    package = _ONLINE.get(tracker, tracker)
    if package != "none" and find_spec(package) is None:
        raise UserError(
            f"the tracker {tracker} is not installed",
            fix=f"pip install {package}, or use --tracker none",
        )
    return package


@contextmanager
def tracked(tracker: str, out: Path, method: str) -> Iterator[None]:
    """Within the block the tracker writes under ``tracking/`` beside the run's folder.

    ``wandb`` stays offline; only ``wandb-online`` sends, to wherever wandb is logged in.
    """
    folder = str(out.parent / FOLDER / method)
    mode = "online" if tracker in _ONLINE else "offline"
    wanted = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": folder},
        "trackio": {"TRACKIO_DIR": folder},
        "wandb": {"WANDB_DIR": folder, "WANDB_MODE": mode, "WANDB_SILENT": "true"},
    }.get(report_to(tracker), {})
    if wanted:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with environment(wanted):
        if tracker == "trackio":
            move_trackio(Path(folder))
        yield
