"""Carries out one training run: what every method shares from the recipe to the files.

In: a :class:`~training.run.TrainingRun`. Out: its folder, and the summary. Called by
``training/launch.py``, and by whoever trains in this process.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.adapter_init import (
    PISSA_START,
    keep_pissa_start,
    load_base,
    make_trainer,
)
from training.callbacks import TrainingMonitor, report_to, tracked
from training.data import Rows, load_processor
from training.device import (
    PeakMemory,
    device_fields,
    device_name,
    is_writer,
    quantization_fields,
    quiet,
    wait_for_all,
    whole_weights,
    writer_first,
)
from training.lora_layers import fused_adapters
from training.methods import TRAINING_METHODS, read_rows
from training.plan.plan import against, expected_peak
from training.rewards import RewardGain
from training.row_threads import rows_in_threads
from training.run import MethodHooks, Recipe, TrainerParts, TrainingRun, TrainSummary
from training.tokens import fit, splits_rows
from training.trl_patches import cpu_attention, cpu_lm_head, no_needless_casts, one_gpu
from workbench.console import console
from workbench.errors import UserError
from workbench.inference.adapters import read_adapter, save_adapter
from workbench.inference.base_models import load_tokenizer
from workbench.store import atomic_file, disk_errors, write_json

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback, TrainingArguments

Curve = list[dict[str, float]]
"""The logged entries of a run, in their order: name → value."""


def train(run: TrainingRun, watch: TrainerCallback | None = None) -> TrainSummary:
    """Train, and write ``adapter/``, ``curve.jsonl``, ``recipe.yaml`` and, last, ``summary.json``.

    A call that was killed and made again goes on from the last checkpoint in ``out``. ``watch`` is
    called back beside the run's own, and may stop it.

    Raises:
        UserError: Bad data, no adapter to go on with or one of another base, a trait that is not
            there, a loss that is no number, no space left.
    """
    begun = time.monotonic()
    hooks = TRAINING_METHODS[run.method].hooks(run)
    if run.adapter:
        read_adapter(run.adapter)
    with ExitStack() as stack:
        stack.enter_context(disk_errors(run.out))
        stack.enter_context(quiet())
        stack.enter_context(cpu_lm_head())
        stack.enter_context(cpu_attention())
        stack.enter_context(tracked(run.tracker, run.out, run.method))
        peak = stack.enter_context(PeakMemory())
        with writer_first():
            checkpoint = _last_checkpoint(run)
        rows = read_rows(run.recipe, run.train)
        # Unsloth's kernels keep other things than the plan knows.
        planned = expected_peak(run, rows) if run.recipe.engine == "trl" else None
        trainer, parts = build(run, rows, hooks)
        if watch is not None:
            trainer.add_callback(watch)
        gain, warnings = _train(trainer, parts, hooks, checkpoint)
    curve = list(_curve(trainer.state.log_history))
    summary = TrainSummary(
        **_counted(trainer, parts, curve),
        total_seconds=round(time.monotonic() - begun, 2),
        planned_peak_mib=planned,
        peak_resident_mib=round(peak.peak_mib, 1),
        peak_gpu_mib=round(peak.gpu_mib, 1),
        held_out_reward=gain,
        warnings=warnings,
        resumed_from=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
    )
    if is_writer():
        _write(run, curve, summary)
    if planned:
        console.print(f"  {against(planned, summary.peak_gpu_mib or summary.peak_resident_mib)}")
    return summary


def _last_checkpoint(run: TrainingRun) -> Path | None:
    """Return the last whole checkpoint of this very run, None to start at step 0.

    Checkpoints of a run with another recipe, data, seed or base are removed.
    """
    folder, identity = run.checkpoints, run.identity()
    named = folder / "run.json"
    if _json(named).get("run") != identity:
        if folder.exists():
            console.print("  checkpoints of a different run were there: starting at step 0")
            shutil.rmtree(folder)
        write_json(named, {"run": identity})
        return None
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    # The trainer writes its state last: a folder without it was being written when the run died.
    whole = [path for path in checkpoints if "global_step" in _json(path / "trainer_state.json")]
    for path in set(checkpoints) - set(whole):
        shutil.rmtree(path)
    if not whole:
        return None
    console.print(f"  going on from step {whole[-1].name.rpartition('-')[2]}")
    return whole[-1]


def _json(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def build(run: TrainingRun, train: Rows, hooks: MethodHooks) -> tuple[Trainer, TrainerParts]:
    """Return the trainer, ready to train, and what it was made of; call it in :func:`quiet`."""
    from transformers import set_seed

    recipe = run.recipe
    # A new adapter's first weights are drawn before the trainer sets its seed.
    set_seed(run.seed)
    validation = read_rows(recipe, run.validation) if run.validation else None
    sees = recipe.data == "images"
    # Raw text needs no chat template: a base that has none may first learn its domain.
    needs_chat = recipe.data != "text"
    tokenizer = load_processor(run.model) if sees else load_tokenizer(run.model, chat=needs_chat)
    arguments = _arguments(run, evaluates=validation is not None)
    longest = getattr(arguments, "max_length", None)
    if not sees:
        cut_at = None if splits_rows(arguments) else longest
        train = fit(train, tokenizer, cut_at)
        validation = fit(validation, tokenizer, cut_at) if validation else None
    model = load_base(recipe, run.model, longest)
    parts = TrainerParts(run, model, tokenizer, arguments, train, validation)
    more = hooks.trainer_inputs(parts)
    try:
        trainer = make_trainer(parts, TRAINING_METHODS[run.method].trainer_class(), **more)
    except ValueError as error:  # what only TRL knows to be wrong with the recipe
        raise UserError(
            f"TRL refuses the recipe: {error}",
            where=run.method,
            fix=f"see the fields of {type(arguments).__name__}",
        ) from error
    hooks.prepare(trainer)
    return trainer, parts


def _arguments(run: TrainingRun, *, evaluates: bool) -> TrainingArguments:
    """Return TRL's configuration of the run."""
    fields = device_fields(run.recipe.trainer)
    if not evaluates:
        fields |= {"eval_strategy": "no", "load_best_model_at_end": False}
    elif run.recipe.early_stopping is not None:
        fields = {"metric_for_best_model": "eval_loss"} | fields
    fields |= {
        "output_dir": str(run.checkpoints),
        "seed": run.seed,
        "data_seed": run.seed,
        "report_to": report_to(run.tracker),
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        # Else early stopping would count its patience anew after a kill.
        "restore_callback_states_from_checkpoint": True,
    }
    return one_gpu(TRAINING_METHODS[run.method].config_class()(**fields))


def _train(
    trainer: Trainer, parts: TrainerParts, hooks: MethodHooks, checkpoint: Path | None
) -> tuple[RewardGain | None, tuple[str, ...]]:
    """Train and write the adapter; return the gain that was measured, and the warnings."""
    run = parts.run
    if run.recipe.starts_from_pissa:
        with writer_first():
            keep_pissa_start(trainer.model, run.checkpoints)
    half = trainer.args.bf16 or trainer.args.fp16
    with no_needless_casts(trainer.model, half=half):
        with ExitStack() as progress:
            monitor = _monitor(trainer, run, progress)
            progress.enter_context(fused_adapters(trainer.model))
            if not run.recipe.samples:  # answers are sampled by all threads together
                checkpointing = bool(trainer.args.gradient_checkpointing)
                progress.enter_context(rows_in_threads(trainer.model, checkpointing=checkpointing))
            resume = str(checkpoint) if checkpoint else None
            gain = hooks.train(
                trainer, parts, partial(trainer.train, resume_from_checkpoint=resume)
            )
        weights = whole_weights(trainer)
        if is_writer():
            save_adapter(
                trainer.model,
                run.out / "adapter",
                run.base_name,
                pissa_start=run.checkpoints / PISSA_START if run.recipe.starts_from_pissa else None,
                weights=weights,
            )
        wait_for_all()
    return gain, tuple(monitor.warnings)


def _monitor(trainer: Trainer, run: TrainingRun, progress: ExitStack) -> TrainingMonitor:
    """Put the monitor into the trainer's callbacks, and early stopping if the recipe asks."""
    from transformers import EarlyStoppingCallback, PrinterCallback

    trainer.remove_callback(PrinterCallback)
    curve = run.out / "curve.jsonl"
    monitor = TrainingMonitor(f"Training {run.method.upper()}", progress, curve)
    trainer.add_callback(monitor)
    if run.recipe.early_stopping is not None:
        if trainer.eval_dataset is None:
            monitor.warn("no validation rows, so no early stop")
        else:
            trainer.add_callback(EarlyStoppingCallback(**run.recipe.early_stopping))
    return monitor


def _counted(trainer: Trainer, parts: TrainerParts, curve: Curve) -> dict[str, Any]:
    """Return what the summary says of the rows, the steps and the curve."""
    losses = [entry["loss"] for entry in curve if "loss" in entry]
    return {
        "method": parts.run.method,
        "base": parts.run.base_name,
        "device": device_name(),
        "seed": parts.run.seed,
        "rows": len(parts.train.rows),
        "validation_rows": len(parts.validation.rows) if parts.validation else 0,
        "cut_rows": parts.train.cut,
        "left_out": parts.train.left_out,
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0.0, 3),
        "tokens": int(max((entry.get("num_tokens", 0) for entry in curve), default=0)),
        "seconds": max((entry["seconds"] for entry in curve), default=0.0),
        "loss_first": losses[0] if losses else math.nan,
        "loss_last": losses[-1] if losses else math.nan,
        "final": {name: value for entry in curve for name, value in entry.items()},
        "trainable_parameters": sum(
            weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
        ),
    }


def _write(run: TrainingRun, curve: Curve, summary: TrainSummary) -> None:
    with atomic_file(run.out / "curve.jsonl") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in curve)
    with atomic_file(run.out / "recipe.yaml") as file:
        file.write(_effective(run.recipe).to_yaml())
    write_json(run.out / "summary.json", summary.model_dump(mode="json"))
    shutil.rmtree(run.checkpoints)


def _effective(recipe: Recipe) -> Recipe:
    """Return the recipe with what the device decided written out."""
    filled = device_fields(recipe.trainer)
    decided = {name: filled[name] for name in ("bf16", "fp16") if name in filled}
    return recipe.model_copy(
        update={
            "trainer": {**recipe.trainer, **decided},
            "quantization": quantization_fields(recipe.quantization),
        }
    )


def _curve(history: Curve) -> Iterator[dict[str, float]]:
    """Yield the log's entries, step first, without the closing one that holds only run totals."""
    for entry in history:
        if "train_runtime" not in entry:
            yield {"step": entry["step"], **{k: v for k, v in entry.items() if k != "step"}}
