"""Group relative policy optimization: the persona's traits are the reward, some are held out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data import read_prompts
from training.policy import policy_of
from training.recipe import Recipe
from training.rewards import RewardGain, Rewards, RewardSettings, make_rewards, reward_gain
from training.session import Parts, Task, TrainSummary, run
from training.trl_patches import prepare_rollouts
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.store import write_json

if TYPE_CHECKING:
    from trl import GRPOTrainer

_BEFORE = "before.json"
"""Kept with the checkpoints: a run that goes on measures only what comes after."""
Seen = dict[str, dict[str, float]]
"""Question → trait → its mean over the question's completions."""


def train_grpo(
    recipe: Recipe,
    model: Path,
    sft_adapter: Path | None,
    train: Path,
    validation: Path | None,
    out: Path,
    *,
    persona: Persona,
    seed: int,
    base_name: str = "",
    judge: Endpoint | None = None,
    tracker: str = "none",
) -> TrainSummary:
    """Train on the model's own answers to the prompts, rewarded by the persona's traits.

    The method is https://arxiv.org/abs/2402.03300, section 4.1, as TRL has it: several completions
    a prompt, each one's advantage being its reward among them.

    Args:
        recipe: A recipe with ``method: grpo``; with a new adapter of its own it starts at the base.
        model: Folder of the base model.
        sft_adapter: The adapter to go on with; not looked at where the recipe makes a new one.
        train: JSONL of :class:`workbench.records.Example`; the prompts are used.
        validation: The same, for the reward before and after; None to go without.
        out: Folder of the run; a call that was killed goes on from its ``checkpoints/``.
        persona: Whose traits are rewarded.
        seed: Of the order of prompts, the sampled answers, and the traits held out.
        base_name: The base as it is written into the adapter; the folder by default.
        judge: An endpoint for the traits that no rule checks.
        tracker: A word of :data:`workbench.config.TRACKERS`.

    Raises:
        UserError: No rows, a trait that is not there, an adapter of another base, rewards without
            variance, completions that have collapsed, no space left.
    """
    recipe.require("grpo")
    settings = RewardSettings.model_validate(recipe.rewards or {})
    rewards = make_rewards(persona, settings, seed, judge)
    task = Task(recipe, model, base_name or str(model), train, validation, out, seed)
    marks = (persona.record_id, judge.model if judge else "")
    adapter = None if recipe.fresh else sft_adapter
    task = replace(task, sft_adapter=adapter, tracker=tracker, marks=marks)
    return run(task, read_prompts, partial(grpo_trainer, rewards), partial(_around, rewards))


def grpo_trainer(rewards: Rewards, parts: Parts) -> GRPOTrainer:
    """Return TRL's trainer with one reward function a trait, those held out at weight 0."""
    from trl import GRPOTrainer

    _enough(parts)
    parts.arguments.reward_weights = rewards.weights
    trainer = policy_of(parts, GRPOTrainer, reward_funcs=list(rewards.functions))
    prepare_rollouts(trainer)
    return trainer


def _enough(parts: Parts) -> None:
    """Raise a UserError where one generation takes more prompts than there are: TRL trains none."""
    arguments, rows = parts.arguments, parts.train.rows
    together = arguments.generation_batch_size // arguments.num_generations
    if len(rows) < together:
        raise UserError(
            f"holds {len(rows)} prompts, and {together} are answered together",
            where=str(parts.train.path),
            fix="lower gradient_accumulation_steps or per_device_train_batch_size in the recipe",
        )


def _around(
    rewards: Rewards, trainer: GRPOTrainer, parts: Parts, train: Callable[[], Any]
) -> RewardGain | None:
    """Train, and measure the reward on the validation prompts before and after."""
    weights = dict(zip((*rewards.rewarded, *rewards.held_out), rewards.weights, strict=False))
    # Where a judge's reward is all, no rule's says what was gained.
    if parts.validation is None or not any(weights.values()):
        train()
        return None
    kept = parts.task.checkpoints / _BEFORE
    if kept.exists():
        before: Seen = json.loads(kept.read_text(encoding="utf-8"))
    else:
        before = _measured(rewards, trainer)
        write_json(kept, before)
    train()
    after = _measured(rewards, trainer)
    watched = dict.fromkeys(rewards.held_out, 1.0)
    unrewarded = {
        f"unrewarded_{when}": _mean(_totals(seen, watched)) if watched else None
        for when, seen in (("before", before), ("after", after))
    }
    return reward_gain(
        _totals(before, weights), _totals(after, weights), parts.task.seed, **unrewarded
    )


def _measured(rewards: Rewards, trainer: GRPOTrainer) -> Seen:
    with rewards.recording() as seen:
        trainer.evaluate()
    return {
        question: {trait: _mean(dict(enumerate(values))) for trait, values in traits.items()}
        for question, traits in seen.items()
    }


def _totals(seen: Seen, weights: dict[str, float]) -> dict[str, float]:
    """Return each question's mean over the traits by their weights: 0 to 1 if none is negative."""
    whole = sum(map(abs, weights.values()))
    return {
        question: sum(weights[name] * traits[name] for name in weights) / whole
        for question, traits in seen.items()
    }


def _mean(values: dict[Any, float]) -> float:
    return sum(values.values()) / len(values)
