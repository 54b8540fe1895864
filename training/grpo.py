"""What GRPO has of its own: the persona's traits are the reward, and the gain is measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from training.data import REVIEWED
from training.device import Fields
from training.rewards import (
    SENSE,
    RewardGain,
    RewardSettings,
    make_rewards,
    model_reward,
    reward_gain,
    sense_reward,
)
from training.run import MethodHooks, TrainerParts, TrainingRun
from training.trl_patches import prepare_rollouts
from workbench.errors import UserError
from workbench.inference.agreement import ReviewedAnswer
from workbench.inference.reward_model import Answered, answer_states
from workbench.store import write_json

if TYPE_CHECKING:
    from transformers import Trainer

    from workbench.inference.reward_model import States

_BEFORE = "before.json"
"""Kept with the checkpoints: a run that goes on measures only what comes after."""
TraitMeans = dict[str, dict[str, float]]
"""Question → trait → its mean over the question's completions."""


class RewardHooks(MethodHooks):
    """One reward function a trait, those held out at weight 0; measured on validation prompts.

    Raises:
        UserError: No persona, a trait that is not there, nothing left to reward.
    """

    def __init__(self, run: TrainingRun) -> None:
        super().__init__(run)
        if run.persona is None:
            raise UserError("grpo rewards a persona's traits, and the run names no persona")
        settings = run.recipe.rewards or RewardSettings()
        self.rewards = make_rewards(run.persona, settings, run.seed, run.judge)

    def trainer_inputs(self, parts: TrainerParts) -> Fields:
        """Return the reward functions.

        Raises:
            UserError: One generation takes more prompts than there are: TRL would train on none.
        """
        parts.check_prompts()
        self._add_sense(parts)
        self._add_reward_model(parts)
        parts.arguments.reward_weights = self.rewards.weights
        return {"reward_funcs": list(self.rewards.functions)}

    def _add_sense(self, parts: TrainerParts) -> None:
        """Watch sense beside the traits, or reward it; nothing where all questions are one."""
        every = [*parts.train.rows, *(parts.validation.rows if parts.validation else ())]
        pairs = [ReviewedAnswer(row["prompt"][-1]["content"], row[REVIEWED]) for row in every]
        rows, settings = list(dict.fromkeys(pairs)), self.run.recipe.rewards or RewardSettings()
        if len(rows) > 1 and self.run.persona is not None:
            function = sense_reward(rows, self.run.persona, settings, self.rewards)
            self.rewards.add(function, settings.sense)

    def _add_reward_model(self, parts: TrainerParts) -> None:
        """Reward what the reviewers' labels taught; the base reads, which is the policy bare.

        Raises:
            UserError: The recipe gives it a weight, and the run names none.
        """
        settings, model = self.run.recipe.rewards or RewardSettings(), self.run.reward_model
        if not settings.reward_model:
            return
        if model is None:
            raise UserError("the rewards give a reward model a weight, and the run names none")

        def read(answers: Sequence[Answered]) -> States:
            policy = self.trainer.accelerator.unwrap_model(self.trainer.model)
            with policy.disable_adapter():
                return answer_states(policy, parts.tokenizer, answers)

        self.rewards.add(model_reward(model, read), settings.reward_model)

    def prepare(self, trainer: Trainer) -> None:
        """Repair the rollouts."""
        self.trainer = trainer
        prepare_rollouts(trainer)

    def train(
        self, trainer: Trainer, parts: TrainerParts, train: Callable[[], object]
    ) -> RewardGain | None:
        """Train, and measure the reward on the validation prompts before and after."""
        rewards = self.rewards
        weights = dict(zip((*rewards.rewarded, *rewards.held_out), rewards.weights, strict=False))
        # Where a judge's reward is all, no rule's says what was gained.
        if parts.validation is None or not any(weights.values()):
            train()
            return None
        file = self.run.checkpoints / _BEFORE
        if file.exists():
            before: TraitMeans = json.loads(file.read_text(encoding="utf-8"))
        else:
            before = self._measure(trainer)
            write_json(file, before)
        train()
        after = self._measure(trainer)
        watched = dict.fromkeys(rewards.held_out, 1.0)
        others = {
            f"unrewarded_{when}": _mean(_totals(means, watched).values()) if watched else None
            for when, means in (("before", before), ("after", after))
        } | {
            f"sense_{when}": _mean([own[SENSE] for own in means.values()])
            for when, means in (("before", before), ("after", after))
            if all(SENSE in own for own in means.values())
        }
        return reward_gain(
            _totals(before, weights), _totals(after, weights), self.run.seed, **others
        )

    def _measure(self, trainer: Trainer) -> TraitMeans:
        with self.rewards.recording() as values:
            trainer.evaluate()
        return {
            question: {trait: _mean(each) for trait, each in traits.items()}
            for question, traits in values.items()
        }


def _totals(means: TraitMeans, weights: dict[str, float]) -> dict[str, float]:
    """Return each question's mean over the traits by their weights: 0 to 1 if none is negative."""
    whole = sum(map(abs, weights.values()))
    return {
        question: sum(weights[name] * traits[name] for name in weights) / whole
        for question, traits in means.items()
    }


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)
