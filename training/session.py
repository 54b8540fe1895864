"""One run of a trainer: what every method shares from the recipe to the files."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from training.adapters import save_adapter
from training.checkpoints import identity, prepare
from training.data import Rows
from training.device import (
    PeakMemory,
    device_fields,
    device_name,
    quantization_fields,
    quiet,
)
from training.fields import Method, trainer_config
from training.head import cpu_head
from training.recipe import Recipe
from workbench.models import load_model, load_tokenizer
from workbench.store import atomic_file, cannot_write, file_hash, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

CHECKPOINTS = "checkpoints"
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_LOW_SPACE = 64 * 2**20
"""Free bytes under which a failed write is taken for a full disk."""


class TrainSummary(BaseModel):
    """What a finished run says of itself; ``summary.json``."""

    model_config = ConfigDict(frozen=True)

    method: Method
    base: str
    device: str
    seed: int
    rows: int
    validation_rows: int
    cut_rows: int
    """Rows that were longer than ``max_length`` and lost their end."""
    steps: int
    epochs: float
    tokens: int
    """Tokens that went through training, prompts included, padding not."""
    seconds: float
    """From the first step to the last, evaluation included; over all calls if it was resumed."""
    total_seconds: float
    """Of this call, loading and writing included."""
    loss_first: float
    loss_last: float
    final: dict[str, float]
    """The last value of everything that was logged: loss, eval_loss, rewards/…"""
    trainable_parameters: int
    peak_resident_mib: float
    peak_gpu_mib: float
    resumed_from: int
    """Step of the checkpoint that this call went on from; 0 for none."""


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
            }
        )


@dataclass(frozen=True)
class Parts:
    """What a method's builder gets to make its trainer of."""

    task: Task
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
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


def build(task: Task, read: Reader, builder: Builder) -> tuple[Trainer, Parts]:
    """Return the trainer, ready to train, and what it was made of; call it in :func:`quiet`."""
    from training.data import fit

    train = read(task.train)
    validation = read(task.validation) if task.validation else None
    tokenizer = load_tokenizer(task.model)
    arguments = _arguments(task, evaluates=validation is not None)
    train = fit(train, tokenizer, arguments.max_length)
    validation = fit(validation, tokenizer, arguments.max_length) if validation else None
    model = load_model(task.model, quantization=quantization_fields(task.recipe.quantization))
    parts = Parts(task, model, tokenizer, arguments, train, validation)
    return builder(parts), parts


def _arguments(task: Task, *, evaluates: bool) -> Any:
    fields = device_fields(task.recipe.trainer)
    if not evaluates:
        fields |= {"eval_strategy": "no", "load_best_model_at_end": False}
    fields |= {
        "output_dir": str(task.checkpoints),
        "seed": task.seed,
        "data_seed": task.seed,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
    }
    return trainer_config(task.recipe.method)(**fields)


def run(task: Task, read: Reader, builder: Builder) -> TrainSummary:
    """Train, and write ``adapter/``, ``curve.jsonl``, ``recipe.yaml`` and, last, ``summary.json``.

    A call that was killed and made again goes on from the last checkpoint in ``out``.

    Raises:
        UserError: Bad data, an adapter of another base, a loss that is no number, no space left.
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_full_disk(task.out))
        stack.enter_context(quiet())
        stack.enter_context(cpu_head())
        peak = stack.enter_context(PeakMemory())
        shown = stack.enter_context(ExitStack())
        checkpoint = prepare(task.checkpoints, task.identity())
        trainer, parts = build(task, read, builder)
        stack.enter_context(_no_needless_casts(trainer))
        _watch(trainer, task, shown)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        shown.close()
        save_adapter(trainer.model, task.out / "adapter", task.base_name)
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
        peak_resident_mib=round(peak.resident_mib, 1),
        peak_gpu_mib=round(peak.gpu_mib, 1),
        resumed_from=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
    )
    with atomic_file(task.out / "curve.jsonl") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in curve)
    with atomic_file(task.out / "recipe.yaml") as file:
        file.write(_effective(task.recipe).to_yaml())
    write_json(task.out / "summary.json", summary.model_dump(mode="json"))
    shutil.rmtree(task.checkpoints)
    return summary


def _watch(trainer: Trainer, task: Task, stack: ExitStack) -> None:
    from transformers import PrinterCallback

    from training.watch import Watch

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch(f"Training {task.recipe.method.upper()}", stack))


def _no_needless_casts(trainer: Trainer) -> AbstractContextManager[None]:
    """Keep the adapters' inputs in the half precision of autocast, which casts the weights.

    PEFT looks for autocast on CUDA alone; on a CPU it would keep a float32 copy of every layer's
    input for the backward pass, some gigabytes of them.
    """
    from peft.helpers import disable_input_dtype_casting

    context: AbstractContextManager[None] = disable_input_dtype_casting(
        trainer.model, active=trainer.args.bf16 or trainer.args.fp16
    )
    return context


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


@contextmanager
def _full_disk(out: Path) -> Iterator[None]:
    """Turn what the libraries raise on a full disk into one line; the last checkpoint stays."""
    from safetensors import SafetensorError

    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        # transformers raises plain OSErrors, without a number, for what is not of the disk.
        if error.errno not in _DISK_ERRORS:
            raise
        raise cannot_write(out, error) from None
    # torch and safetensors wrap the system's error in their own.
    except (RuntimeError, SafetensorError) as error:
        full = "No space left" in str(error) or (
            "write" in str(error).lower() and shutil.disk_usage(out).free < _LOW_SPACE
        )
        if not full:
            raise
        raise cannot_write(out, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None


def keep_float32(model: Any, source: str = "") -> None:
    """Put the trainable weights back into float32, which TRL rounds to bfloat16 for 4-bit bases.

    bfloat16 holds 8 bits of a number, so that an update of AdamW at DPO's learning rates is
    smaller than half the distance to the next weight, and is lost.

    Args:
        model: The trainer's model.
        source: Name of a frozen copy of the adapter to take unrounded values from.
    """
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if weight.requires_grad:
            exact = weights[name.replace(".default.", f".{source}.")] if source else weight
            weight.data = exact.data.detach().clone().float()
