from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from training.trainer import train
from workbench.errors import UserError

from .conftest import SFT, building_with, curve, recipe_of, run_of


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(
    tiny_model: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    class Spoils(TrainerCallback):  # type: ignore[misc]
        """Spoils the third step as too high a rate does: a weight is no number."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            if state.global_step == 2:
                weight = next(w for w in parts["model"].parameters() if w.requires_grad)
                weight.data.fill_(math.nan)

    monkeypatch.setattr("training.trainer.build", building_with(Spoils()))
    with pytest.raises(UserError, match=r"loss is nan at step 3.*lower learning_rate"):
        train(
            run_of(
                recipe_of(SFT, max_steps=4, logging_steps=1, save_steps=2),
                tiny_model,
                examples,
                tmp_path,
            )
        )

    kept = load_file(tmp_path / "checkpoints/checkpoint-2/adapter_model.safetensors")
    assert all(bool(weight.isfinite().all()) for weight in kept.values())
    assert not (tmp_path / "adapter").exists()


def test_a_gradient_that_overflows_in_float16_is_the_scaler_s_to_skip() -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from training.callbacks import TrainingMonitor

    arguments = TrainingArguments(bf16=False, use_cpu=True)
    state = TrainerState(log_history=[{"loss": 2.0, "grad_norm": math.inf, "step": 1}])
    with pytest.raises(UserError, match="grad_norm is inf"):
        TrainingMonitor("", None).on_log(arguments, state, TrainerControl())  # type: ignore[arg-type]
    arguments.fp16 = True
    TrainingMonitor("", None).on_log(arguments, state, TrainerControl())  # type: ignore[arg-type]


def test_the_last_loss_is_looked_at_however_rarely_one_is_logged(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    rare = recipe_of(SFT, max_steps=3, logging_steps=2, save_steps=2)
    summary = train(run_of(rare, tiny_model, examples, tmp_path))

    assert [entry["step"] for entry in curve(tmp_path)] == [2, 3]
    assert summary.loss_last == curve(tmp_path)[-1]["loss"]


def test_a_metric_that_is_not_measured_is_one_line(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    wrong = recipe_of(
        SFT,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="token_accuracy",
    )

    with pytest.raises(UserError, match=r"which no evaluation.*'mean_token_accuracy'"):
        train(run_of(wrong, tiny_model, examples, tmp_path, validation=examples))
