"""A plan: the tokens, steps, time and memory of a run, and whether it fits the device.

In: an :class:`EstimateRequest`. Out: a :class:`Plan`, its table, and its lines for people. Called
by ``rounds/estimates.py`` before a run, and by ``training/trainer.py`` at its beginning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.data import Rows, load_processor
from training.device import Fields, device_fields, device_name, quiet
from training.methods import TRAINING_METHODS
from training.plan.lengths import Lengths, image_lengths, measure_lengths
from training.plan.memory import (
    KERNELS,
    MIB,
    EstimateProfile,
    loading,
    parts,
    peak,
    smallest_change,
)
from training.plan.model_shapes import measure_shapes, planned_adapter, read_config
from training.plan.timing import estimate_step
from training.run import Recipe, TrainingRun
from training.tokens import splits_rows
from workbench.console import in_words
from workbench.errors import UserError
from workbench.inference.base_models import load_tokenizer
from workbench.values import Frozen

if TYPE_CHECKING:
    from peft import PeftConfig
    from rich.table import Table
    from transformers import PretrainedConfig, TrainingArguments

GPU_RESERVE = 600 * MIB
"""CUDA's context and what torch's allocator rounds up; not in the sum that torch reports."""


class Plan(Frozen):
    """What a run will cost; every size in MiB of 2^20 bytes."""

    method: str
    base: str
    device: str
    memory_mib: float
    """Of the device: a GPU's own, or what the machine has free for a process."""
    rows: int
    """Packed ones where the recipe packs."""
    longest: int
    """Tokens of the longest sequence."""
    mean_tokens: float
    batch: tuple[int, int]
    """Sequences of the largest forward pass, and tokens of each, padding included."""
    steps: int
    tokens: int
    """That go through training, padding not counted; sampled ones at their longest."""
    step_seconds: float | None
    """None where the device is not at hand to measure it."""
    seconds: float | None
    parts_mib: dict[str, float]
    peak_mib: float
    fits: bool
    change: Fields | None = None
    """Trainer fields, the smallest change that makes it fit; None if it fits or nothing would."""


@dataclass(frozen=True)
class EstimateRequest:
    """What is to be planned."""

    run: TrainingRun
    """The weights of its base are not read, and need not be there; nor need its adapter."""
    rows: Rows
    """Its training rows, as they were read."""
    lora: Fields | None = None
    """Fields of ``peft.LoraConfig`` of the adapter to go on with, where it is not trained yet."""
    gpu_memory: int | None = None
    """Bytes of a GPU to plan for, whether it is here or not; None for the device at hand."""


def profile_of(request: EstimateRequest) -> EstimateProfile:
    """Return everything that the memory of a run follows from.

    Raises:
        UserError: An unknown architecture, or no row that fits ``max_length``.
    """
    import torch

    run, recipe = request.run, request.run.recipe
    arguments = _arguments(recipe)
    longest = arguments.max_length
    with quiet():
        if recipe.data == "images":
            lengths = image_lengths(request.rows, load_processor(run.model))
        else:
            tokenizer = load_tokenizer(run.model, chat=recipe.data != "text")
            lengths = measure_lengths(request.rows, tokenizer, longest)
    if longest and not splits_rows(arguments):
        lengths = lengths.capped(longest)
    if longest and getattr(arguments, "packing", False):
        lengths = lengths.packed(longest)
    adapter = planned_adapter(recipe, run.adapter, request.lora)
    gpu = request.gpu_memory is not None or torch.cuda.is_available()
    return make_profile(recipe, read_config(run.model), adapter, lengths, gpu=gpu)


def make_profile(
    recipe: Recipe, config: PretrainedConfig, adapter: PeftConfig, lengths: Lengths, *, gpu: bool
) -> EstimateProfile:
    """Return the same from a configuration and row lengths that are at hand.

    ``gpu`` is whether it runs on one, be it here or not: that computes in half precision.
    """
    fields = device_fields(recipe.trainer)
    half = gpu or bool(fields.get("bf16") or fields.get("fp16"))
    with quiet():
        shapes = measure_shapes(config, adapter)
    return EstimateProfile(recipe, _arguments(recipe), config, adapter, shapes, lengths, half, gpu)


def _arguments(recipe: Recipe) -> TrainingArguments:
    """Return TRL's configuration, to read numbers from: it must not look for a GPU."""
    fields = device_fields(recipe.trainer) | {"output_dir": "unused", "report_to": "none"}
    fields |= {"bf16": False, "fp16": False, "use_cpu": True, "dataloader_pin_memory": False}
    with quiet():
        arguments = TRAINING_METHODS[recipe.method].config_class()(**fields)
    arguments.max_length = getattr(arguments, "max_length", None)
    return arguments


def make_plan(request: EstimateRequest, *, timed: bool = True) -> Plan:
    """Return the plan of a run.

    ``timed`` measures the speed of a step on this machine, which takes seconds.

    Raises:
        UserError: An unknown architecture, or no row that fits ``max_length``.
    """
    profile = profile_of(request)
    sizes = parts(profile)
    # Measured last: what planning itself loads stays in the process that trains.
    overhead = GPU_RESERVE if profile.gpu else resident() + KERNELS
    sizes = {"CUDA context" if profile.gpu else "libraries": overhead, **sizes}
    memory = request.gpu_memory or _device_memory()
    least = overhead + loading(profile)
    most = max(peak(sizes), least)
    steps = count_steps(profile.arguments, profile.lengths)
    here = request.gpu_memory is None
    step = estimate_step(profile) if timed and here else None
    return Plan(
        method=request.run.method,
        base=request.run.base_name,
        device=device_name() if here else "a GPU that is not here",
        memory_mib=round(memory / MIB),
        rows=profile.lengths.rows,
        longest=profile.lengths.longest,
        mean_tokens=round(profile.lengths.mean, 1),
        batch=(profile.sequences, profile.length),
        steps=steps,
        tokens=_tokens(profile, steps),
        step_seconds=None if step is None else round(step, 3),
        seconds=None if step is None else round(step * steps, 1),
        parts_mib={name: round(size / MIB, 1) for name, size in sizes.items()},
        peak_mib=round(most / MIB, 1),
        fits=most <= memory,
        # Nothing that the trainer is told makes a model load in less.
        change=smallest_change(profile, memory - overhead) if least <= memory < most else None,
    )


def count_steps(arguments: TrainingArguments, lengths: Lengths) -> int:
    """Return the optimizer's steps, as transformers' Trainer counts them."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    if together := getattr(arguments, "generation_batch_size", None):
        # GRPO: a generation's prompts, the last ones left out where they are too few, are passed
        # through in steps_per_generation batches, num_iterations times (TRL's RepeatSampler).
        generations = lengths.rows // (together // arguments.num_generations)
        batches = generations * arguments.steps_per_generation * arguments.num_iterations
    else:
        batches = math.ceil(lengths.rows / arguments.per_device_train_batch_size)
    a_round: int = max(math.ceil(batches / arguments.gradient_accumulation_steps), 1)
    return math.ceil(a_round * float(arguments.num_train_epochs))


def resident() -> int:
    """Return the bytes that this process holds in memory, with what a run imports imported."""
    import psutil
    import trl

    for name in ("SFTTrainer", "DPOTrainer"):
        getattr(trl, name)  # TRL imports its trainers when they are first asked for
    return int(psutil.Process().memory_info().rss)


def _device_memory() -> int:
    """Return the bytes of the GPU here, else what the machine can give on top of what is held."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)


def _tokens(profile: EstimateProfile, steps: int) -> int:
    accumulated = profile.arguments.gradient_accumulation_steps * profile.sequences
    mean = profile.lengths.mean
    if profile.recipe.samples:
        mean += int(profile.arguments.max_completion_length or 0)
    return round(steps * float(accumulated) * mean)


def expected_peak(run: TrainingRun, rows: Rows) -> float | None:
    """Return the planned peak in MiB of a run that begins now, as the run will measure it.

    On a GPU that is what torch allocates, on a processor all that the process holds. None where the
    run cannot be planned: that is no reason not to train.
    """
    try:
        plan = make_plan(EstimateRequest(run, rows), timed=False)
    # torch raises RuntimeErrors for what tensors without data cannot follow; a configuration that
    # has no attention heads, such as Mamba's, lacks the attribute.
    except (UserError, RuntimeError, AttributeError):
        return None
    return round(plan.peak_mib - plan.parts_mib.get("CUDA context", 0.0), 1)


def table(plan: Plan) -> Table:
    """Return the plan as a table of rich."""
    from rich.table import Table

    grid = Table(title=f"{plan.method} of {plan.base} on {plan.device}", title_justify="left")
    grid.add_column("what")
    grid.add_column("how much", justify="right")
    sequences, tokens = plan.batch
    grid.add_row("rows", f"{plan.rows:,}")
    grid.add_row("tokens of a sequence", f"{plan.mean_tokens:,.0f} (longest {plan.longest:,})")
    grid.add_row("largest batch", f"{sequences} x {tokens:,} tokens")
    grid.add_row("steps", f"{plan.steps:,}")
    grid.add_row("tokens", f"{plan.tokens:,}")
    grid.add_row("time", _time(plan), end_section=True)
    for name, size in plan.parts_mib.items():
        grid.add_row(name, f"{size:,.1f} MiB")
    grid.add_section()
    grid.add_row("peak memory", f"{plan.peak_mib:,.0f} MiB", style="bold")
    grid.add_row("the device has", f"{plan.memory_mib:,.0f} MiB")
    return grid


def fit_line(plan: Plan) -> str:
    """Return in one line whether the run fits, and what would make it fit."""
    if plan.fits:
        return "fits"
    if plan.change is None:
        return "does not fit, and no change of the recipe's trainer section makes it fit"
    fields = ", ".join(f"{key}: {_yaml(value)}" for key, value in plan.change.items())
    return f"does not fit; the smallest change that does: trainer: {{{fields}}}"


def against(planned_mib: float, measured_mib: float) -> str:
    """Return the prediction beside what was measured."""
    error = planned_mib / measured_mib - 1
    return (
        f"peak memory: planned {planned_mib:,.0f} MiB, measured {measured_mib:,.0f} MiB"
        f" ({error:+.0%})"
    )


def _time(plan: Plan) -> str:
    if plan.seconds is None or plan.step_seconds is None:
        return "not measured: the device is not here"
    return f"{in_words(plan.seconds)} ({plan.step_seconds:.2f} s a step)"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
