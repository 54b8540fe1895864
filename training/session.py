"""One run of a trainer: what every method shares from the recipe to the files."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.adapter_init import (
    PISSA_START,
    keep_pissa_start,
    load_base,
    starts_from_pissa,
    use_loraplus,
)
from training.callbacks import report_to, tracked
from training.checkpoints import full_disk, identity, prepare
from training.data import Rows, load_processor, splits_rows
from training.device import (
    PeakMemory,
    device_fields,
    device_name,
    is_writer,
    no_needless_casts,
    quantization_fields,
    quiet,
    wait_for_all,
    whole_weights,
    writer_first,
)
from training.recipe import Recipe
from training.recipe_fields import trainer_config
from training.run import TrainSummary
from training.trl_patches import cpu_head
from workbench.console import console
from workbench.errors import UserError
from workbench.inference.adapters import save_adapter
from workbench.inference.base_models import load_tokenizer
from workbench.store import atomic_file, file_hash, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

    from training.callbacks import Watch
    from training.rewards import RewardGain

__all__ = ["Parts", "Task", "TrainSummary", "build", "run"]

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Task:
    """All that a run is made from."""

    recipe: Recipe
    model: Path
    base_name: str
    train: Path
    validation: Path | None
    out: Path
    seed: int
    sft_adapter: Path | None = None
    tracker: str = "none"
    """One of :data:`workbench.config.TRACKERS`; changes nothing of the result."""
    marks: tuple[str, ...] = ()
    """Whatever else decides the result, such as the persona that rewards come from."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints; gone when the run is done."""
        return self.out / CHECKPOINTS

    def identity(self) -> str:
        """Return a hash of what decides the result; checkpoints of another are not gone on from."""
        files = [self.train, self.validation, self.sft_adapter, self.model / "config.json"]
        return identity(
            {
                "recipe": self.recipe.model_dump(),
                "files": [file_hash(path) if path else None for path in files],
                "base": self.base_name,
                "seed": self.seed,
                "marks": self.marks,
            }
        )


@dataclass(frozen=True)
class Parts:
    """What a method's builder gets to make its trainer of."""

    task: Task
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    """Or the processor of a model that reads images."""
    arguments: Any
    """TRL's configuration of the method."""
    train: Rows
    validation: Rows | None

    def trainer_inputs(self) -> dict[str, Any]:
        """Return the arguments that TRL's trainers share."""
        return {
            "args": self.arguments,
            "train_dataset": self.train.dataset(),
            "eval_dataset": self.validation.dataset() if self.validation else None,
            "processing_class": self.tokenizer,
        }


Reader = Callable[[Path], Rows]
Builder = Callable[[Parts], "Trainer"]
Around = Callable[["Trainer", Parts, Callable[[], Any]], "RewardGain | None"]
"""Trains by calling its last argument, and returns what it measured before and after."""


def _just_train(trainer: Trainer, parts: Parts, train: Callable[[], Any]) -> None:
    train()


def build(task: Task, read: Reader, builder: Builder) -> tuple[Trainer, Parts]:
    """Return the trainer, ready to train, and what it was made of; call it in :func:`quiet`."""
    from transformers import set_seed

    from training.data import fit

    # A new adapter's first weights are drawn before the trainer sets its seed.
    set_seed(task.seed)
    train = read(task.train)
    validation = read(task.validation) if task.validation else None
    sees = task.recipe.data == "images"
    # Raw text needs no chat template: a base that has none may first learn its domain.
    needs_chat = task.recipe.data != "text"
    tokenizer = load_processor(task.model) if sees else load_tokenizer(task.model, chat=needs_chat)
    arguments = _arguments(task, evaluates=validation is not None)
    longest = getattr(arguments, "max_length", None)
    if not sees:
        cut_at = None if splits_rows(arguments) else longest
        train = fit(train, tokenizer, cut_at)
        validation = fit(validation, tokenizer, cut_at) if validation else None
    model = load_base(task.recipe, task.model, longest)
    parts = Parts(task, model, tokenizer, arguments, train, validation)
    trainer = _made(builder, parts)
    if task.recipe.loraplus:
        use_loraplus(trainer, task.recipe.loraplus)
    return trainer, parts


def _made(builder: Builder, parts: Parts) -> Trainer:
    """Return the trainer; what only TRL knows to be wrong with the recipe is one line."""
    try:
        return builder(parts)
    except ValueError as error:
        raise UserError(
            f"TRL refuses the recipe: {error}",
            where=parts.task.recipe.method,
            fix=f"see the fields of {type(parts.arguments).__name__}",
        ) from error


def _arguments(task: Task, *, evaluates: bool) -> Any:
    fields = device_fields(task.recipe.trainer)
    if not evaluates:
        fields |= {"eval_strategy": "no", "load_best_model_at_end": False}
    elif task.recipe.early_stopping is not None:
        fields = {"metric_for_best_model": "eval_loss"} | fields
    fields |= {
        "output_dir": str(task.checkpoints),
        "seed": task.seed,
        "data_seed": task.seed,
        "report_to": report_to(task.tracker),
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        # Else early stopping would count its patience anew after a kill.
        "restore_callback_states_from_checkpoint": True,
    }
    return one_gpu(trainer_config(task.recipe.method)(**fields))


def one_gpu(arguments: Any) -> Any:
    """Return TRL's configuration, told that this process trains on one GPU of several.

    transformers would put ``DataParallel`` around the model, which TRL refuses; a process that
    ``accelerate`` has started knows of one GPU already. It is what transformers does with a model
    that lies on several.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def run(task: Task, read: Reader, builder: Builder, around: Around = _just_train) -> TrainSummary:
    """Train, and write ``adapter/``, ``curve.jsonl``, ``recipe.yaml`` and, last, ``summary.json``.

    A call that was killed and made again goes on from the last checkpoint in ``out``.

    Raises:
        UserError: Bad data, an adapter of another base, a loss that is no number, no space left.
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(full_disk(task.out))
        stack.enter_context(quiet())
        stack.enter_context(cpu_head())
        stack.enter_context(tracked(task.tracker, task.out, task.recipe.method))
        peak = stack.enter_context(PeakMemory())
        shown = stack.enter_context(ExitStack())
        with writer_first():
            checkpoint = prepare(task.checkpoints, task.identity())
        planned = _planned(task, read)
        trainer, parts = build(task, read, builder)
        pissa = starts_from_pissa(task.recipe)
        if pissa:
            with writer_first():
                keep_pissa_start(trainer.model, task.checkpoints)
        half = trainer.args.bf16 or trainer.args.fp16
        stack.enter_context(no_needless_casts(trainer.model, half=half))
        watch = _watch(trainer, task, shown)
        resume = str(checkpoint) if checkpoint else None
        gain = around(trainer, parts, partial(trainer.train, resume_from_checkpoint=resume))
        shown.close()
        start = task.checkpoints / PISSA_START if pissa else None
        weights = whole_weights(trainer)
        if is_writer():
            save_adapter(
                trainer.model,
                task.out / "adapter",
                task.base_name,
                pissa_start=start,
                weights=weights,
            )
        wait_for_all()
    curve = list(_curve(trainer.state.log_history))
    losses = [entry["loss"] for entry in curve if "loss" in entry]
    summary = TrainSummary(
        method=task.recipe.method,
        base=task.base_name,
        device=device_name(),
        seed=task.seed,
        rows=len(parts.train.rows),
        validation_rows=len(parts.validation.rows) if parts.validation else 0,
        cut_rows=parts.train.cut,
        steps=trainer.state.global_step,
        epochs=round(trainer.state.epoch or 0.0, 3),
        tokens=int(max((entry.get("num_tokens", 0) for entry in curve), default=0)),
        seconds=max((entry["seconds"] for entry in curve), default=0.0),
        total_seconds=round(time.monotonic() - begun, 2),
        loss_first=losses[0] if losses else math.nan,
        loss_last=losses[-1] if losses else math.nan,
        final={name: value for entry in curve for name, value in entry.items()},
        trainable_parameters=_trainable(trainer.model),
        planned_peak_mib=planned,
        peak_resident_mib=round(peak.resident_mib, 1),
        peak_gpu_mib=round(peak.gpu_mib, 1),
        held_out_reward=gain,
        warnings=tuple(watch.warnings),
        resumed_from=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
    )
    if is_writer():
        _write(task, curve, summary)
    if planned:
        from training.plan.plan import against

        console.print(f"  {against(planned, summary.peak_gpu_mib or summary.peak_resident_mib)}")
    return summary


def _write(task: Task, curve: list[dict[str, Any]], summary: TrainSummary) -> None:
    with atomic_file(task.out / "curve.jsonl") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in curve)
    with atomic_file(task.out / "recipe.yaml") as file:
        file.write(_effective(task.recipe).to_yaml())
    write_json(task.out / "summary.json", summary.model_dump(mode="json"))
    shutil.rmtree(task.checkpoints)


def _planned(task: Task, read: Reader) -> float | None:
    """Return the peak memory that the plan says, in MiB; None where none can be made."""
    from training.plan.plan import expected_peak

    if task.recipe.engine != "trl":
        return None  # Unsloth's kernels keep other things
    return expected_peak(task.recipe, task.model, read(task.train), task.sft_adapter)


def _watch(trainer: Trainer, task: Task, stack: ExitStack) -> Watch:
    from transformers import EarlyStoppingCallback, PrinterCallback

    from training.callbacks import Watch

    trainer.remove_callback(PrinterCallback)
    watch = Watch(f"Training {task.recipe.method.upper()}", stack)
    trainer.add_callback(watch)
    if task.recipe.early_stopping is not None:
        if trainer.eval_dataset is None:
            watch.warn("no validation rows, so no early stop")
        else:
            trainer.add_callback(EarlyStoppingCallback(**task.recipe.early_stopping))
    return watch


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


def _curve(history: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the log's entries, step first, without the closing one that holds only run totals."""
    for entry in history:
        if "train_runtime" not in entry:
            yield {"step": entry["step"], **{k: v for k, v in entry.items() if k != "step"}}


def _trainable(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
