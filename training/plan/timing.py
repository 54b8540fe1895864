"""Seconds of a recipe's step, measured on the model's own blocks on this machine.

In: an :class:`~training.plan.memory.EstimateProfile`. Out: seconds of its passes through the model,
and of the answers that it samples. Called by ``training/plan/plan.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from training.device import quiet
from training.lora_layers import fused_adapters
from training.plan.memory import EstimateProfile
from training.plan.model_shapes import (
    bare_model,
    pack,
    pixel_inputs,
    places_unchecked,
    with_adapter,
    with_layers,
)
from training.row_threads import rows_in_threads
from training.trl_patches import (
    cpu_attention,
    cpu_lm_head,
    keep_head_whole,
    no_needless_casts,
    unpacked,
)
from workbench.meter import trim_heap

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

_FEW, _MORE = 1, 4
_REPEATS = 2
_FIRST, _THEN = 2, 12
"""New tokens of the two rollouts that are timed: their difference is of ten tokens alone."""
_MANY = 10
"""Blocks of the larger model that samples: in a token, one takes little beside head and draw."""


@dataclass(frozen=True)
class TimedPass:
    """One pass through the model, up to the loss."""

    rows: int
    length: int
    """Tokens of each row."""
    labels: int
    """Tokens of all rows that have a label, and so go through the head."""
    checkpointing: bool = False
    """Whether blocks are computed again in the backward pass."""
    backward: bool = True
    """False for a forward pass alone, such as a reference's."""
    pixels: tuple[int, ...] = ()
    """Images, channels, height and width that a row brings; empty for text alone."""


@dataclass(frozen=True)
class TimedAnswers:
    """Answers that are sampled together."""

    rows: int
    prompt: int
    """Tokens of each prompt."""
    tokens: int
    """New tokens of each answer."""


def pass_seconds(profile: EstimateProfile, wanted: TimedPass) -> float:
    """Return the seconds of a pass, with TRL's own head and what the heap's pages take.

    What is timed is the real code on the real device, on two short models. Blocks are alike, so
    that time is linear in their number; the head is in both, and so counts once.
    """
    return _over_layers(profile, lambda count: _timed(_pass_of(profile, count, wanted)))


def sampled_seconds(profile: EstimateProfile, wanted: TimedAnswers) -> float:
    """Return the seconds in which answers are sampled, by ``generate`` as training calls it."""

    def a_token(count: int) -> float:
        first, then = (_timed(_sampling(profile, count, wanted, n)) for n in (_FIRST, _THEN))
        return max(then - first, 0.0) / (_THEN - _FIRST)

    seconds = _over_layers(profile, a_token, more=_MANY)
    prompts_pass = TimedPass(wanted.rows, wanted.prompt, wanted.rows, backward=False)
    return pass_seconds(profile, prompts_pass) + wanted.tokens * seconds


def _over_layers(
    profile: EstimateProfile, measure: Callable[[int], float], more: int = _MORE
) -> float:
    """Return what a measure gives for the whole model, from one of few blocks and one of more."""
    layers = int(profile.config.get_text_config().num_hidden_layers)
    more = min(more, max(layers, _FEW + 1))
    little, much = (measure(count) for count in (_FEW, more))
    return max(little + (much - little) / (more - _FEW) * (layers - _FEW), little)


def _timed(once: Callable[[], None]) -> float:
    """Return the least seconds of a few calls, after one to warm up."""
    trim_heap()
    once()
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _short_model(profile: EstimateProfile, layers: int) -> tuple[PeftModel, str, torch.dtype]:
    """Return a short model with its adapter, its device, and its type.

    Its weights are random, and packed as the recipe says.
    """
    import torch
    from trl.trainer.utils import add_fused_lm_head

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if profile.half else torch.float32
    with quiet(), torch.device(device):
        bare = bare_model(with_layers(profile.config, layers), dtype)
        quantization = profile.recipe.quantization
        if quantization and quantization.get("load_in_4bit"):
            pack(bare, quantization)
        add_fused_lm_head(bare)
        return with_adapter(bare, profile.adapter).train(), device, dtype


def _ids(profile: EstimateProfile, rows: int, length: int, device: str) -> torch.Tensor:
    import torch

    vocabulary = profile.config.get_text_config().vocab_size
    return torch.randint(vocabulary, (rows, length), device=device)


def _pass_of(profile: EstimateProfile, layers: int, wanted: TimedPass) -> Callable[[], None]:
    import torch

    short, device, dtype = _short_model(profile, layers)
    if wanted.checkpointing:
        short.gradient_checkpointing_enable({"use_reentrant": False})
        short.enable_input_require_grads()
    ids = _ids(profile, wanted.rows, wanted.length, device)
    # One padding token, as in a real batch: without any, a faster kernel without a mask is taken.
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    labels = ids.clone()
    labels[:, : wanted.length - max(wanted.labels // wanted.rows, 1)] = -100
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    inputs |= pixel_inputs(wanted.rows, wanted.pixels, device)

    # Training computes its rows so, but for GRPO.
    whole = wanted.checkpointing or profile.recipe.samples

    def once() -> None:
        # Around the backward pass too: checkpointing computes attention again there.
        with (
            cpu_attention(),
            fused_adapters(short),
            rows_in_threads(short, checkpointing=whole),
        ):
            with (
                torch.set_grad_enabled(wanted.backward),
                torch.autocast(device, dtype, enabled=profile.half),
                no_needless_casts(short, half=profile.half),
                cpu_lm_head(),
                places_unchecked(),
            ):
                loss = short(**inputs, fused_lm_head=True).loss
            if wanted.backward:
                loss.backward()
                short.zero_grad(set_to_none=True)
        _wait(device)

    return once


def _sampling(
    profile: EstimateProfile, layers: int, wanted: TimedAnswers, tokens: int
) -> Callable[[], None]:
    import torch

    short, device, dtype = _short_model(profile, layers)
    keep_head_whole(short)
    ids = _ids(profile, wanted.rows, wanted.prompt, device)
    lengths = {"max_new_tokens": tokens, "min_new_tokens": tokens}

    def once() -> None:
        with (
            quiet(),
            torch.no_grad(),
            torch.autocast(device, dtype, enabled=profile.half),
            unpacked(short),
        ):
            short.generate(input_ids=ids, do_sample=True, top_k=0, pad_token_id=0, **lengths)
        _wait(device)

    return once


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def estimate_step(profile: EstimateProfile) -> float:
    """Return the seconds of one optimizer step of usual length, measured on this machine.

    Not in it: evaluations, checkpoints, and what the optimizer itself takes.
    """
    passes = _passes(profile)
    seconds = {one: pass_seconds(profile, one) for one in set(passes)}
    micro = sum(seconds[one] for one in passes)
    accumulated = int(profile.arguments.gradient_accumulation_steps)
    if not profile.recipe.samples:
        return micro * accumulated
    together = int(profile.arguments.generation_batch_size)
    prompt = round(
        profile.lengths.usual(max(together // int(profile.arguments.num_generations), 1))
    )
    sampled = TimedAnswers(together, prompt, int(profile.arguments.max_completion_length or 0))
    # One generation serves as many micro-batches as it holds, and all of its iterations.
    generations = accumulated * profile.sequences / together / int(profile.arguments.num_iterations)
    return micro * accumulated + sampled_seconds(profile, sampled) * generations


def _passes(profile: EstimateProfile) -> list[TimedPass]:
    """Return the passes of a micro-batch, the policy's first."""
    method, arguments = profile.recipe.method, profile.arguments
    rows = profile.sequences
    if profile.recipe.samples:
        answers = int(arguments.max_completion_length or 0)
        labels = rows * answers
        length = round(profile.lengths.usual(rows)) + answers
    else:
        labels = round(rows * sum(profile.lengths.answer) / len(profile.lengths.answer))
        packed = getattr(arguments, "packing", False) and arguments.max_length
        length = profile.length if packed else profile.usual_length
    policy = TimedPass(
        rows,
        length,
        labels,
        bool(arguments.gradient_checkpointing),
        pixels=profile.lengths.pixels,
    )
    forward = replace(policy, checkpointing=False, backward=False)
    passes = [policy]
    if method == "sdft":
        # The teacher reads persona and reviewed answer too: so long a prompt at the most.
        prompt = int(arguments.max_prompt_length or length)
        return [policy, replace(forward, length=prompt + int(arguments.max_completion_length or 0))]
    if method != "sft" and arguments.beta and not getattr(arguments, "precompute_ref_log_probs", 0):
        passes.append(forward)  # the reference
    if method == "kto" and "kto" in str(arguments.loss_type):
        passes += [forward, forward]  # policy and reference on answers to other prompts
    return passes
