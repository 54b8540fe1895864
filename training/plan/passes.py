"""Seconds of a recipe's step: its passes through the model, and the answers that it samples."""

from __future__ import annotations

from dataclasses import replace

from training.plan.memory import Scene
from training.plan.timing import Model, Pass, Sampled, pass_seconds, sampled_seconds


def estimate_step(scene: Scene) -> float:
    """Return the seconds of one optimizer step of usual length, measured on this machine.

    Not in it: evaluations, checkpoints, and what the optimizer itself takes.
    """
    model = Model(scene.config, scene.adapter, scene.recipe.quantization, scene.half)
    passes = _passes(scene)
    seconds = {one: pass_seconds(model, one) for one in set(passes)}
    micro = sum(seconds[one] for one in passes)
    accumulated = int(scene.arguments.gradient_accumulation_steps)
    if scene.recipe.method != "grpo":
        return micro * accumulated
    together = int(scene.arguments.generation_batch_size)
    prompt = round(scene.lengths.usual(max(together // int(scene.arguments.num_generations), 1)))
    sampled = Sampled(together, prompt, int(scene.arguments.max_completion_length or 0))
    # One generation serves as many micro-batches as it holds, and all of its iterations.
    generations = accumulated * scene.sequences / together / int(scene.arguments.num_iterations)
    return micro * accumulated + sampled_seconds(model, sampled) * generations


def _passes(scene: Scene) -> list[Pass]:
    """Return the passes of a micro-batch, the policy's first."""
    method, arguments = scene.recipe.method, scene.arguments
    rows = scene.sequences
    if method == "grpo":
        answers = int(arguments.max_completion_length or 0)
        labels = rows * answers
        length = round(scene.lengths.usual(rows)) + answers
    else:
        labels = round(rows * sum(scene.lengths.answer) / len(scene.lengths.answer))
        packed = getattr(arguments, "packing", False) and arguments.max_length
        length = scene.length if packed else round(scene.lengths.usual(rows))
    policy = Pass(
        rows,
        length,
        labels,
        bool(arguments.gradient_checkpointing),
        pixels=scene.lengths.pixels,
    )
    forward = replace(policy, checkpointing=False, backward=False)
    passes = [policy]
    if method != "sft" and arguments.beta and not getattr(arguments, "precompute_ref_log_probs", 0):
        passes.append(forward)  # the reference
    if method == "kto" and "kto" in str(arguments.loss_type):
        passes += [forward, forward]  # policy and reference on answers to other prompts
    return passes
