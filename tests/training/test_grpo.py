from __future__ import annotations

from pathlib import Path

import pytest

from training.rewards import DISTINCT, HELD_OUT, REWARDED, RewardSettings
from training.run import TrainSummary
from training.trainer import train
from workbench.errors import UserError
from workbench.inference.reward_model import RewardModel, TraitHead
from workbench.persona import Persona

from .conftest import GRPO, built, curve, kill_at, recipe_of, run_of


@pytest.fixture(scope="module")
def trained(
    tiny_model: Path,
    sft_adapter: Path,
    examples: Path,
    small_persona: Persona,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, TrainSummary]:
    out = tmp_path_factory.mktemp("grpo")
    summary = train(
        run_of(
            recipe_of(GRPO),
            tiny_model,
            examples,
            out,
            validation=examples,
            adapter=sft_adapter,
            persona=small_persona,
        )
    )
    return out, summary


def test_every_trait_is_logged_and_one_is_held_out_of_the_reward(
    trained: tuple[Path, TrainSummary],
) -> None:
    steps = [entry for entry in curve(trained[0]) if "reward" in entry]

    assert len(steps) == 6
    for entry in steps:
        assert entry["reward"] == pytest.approx(entry["rewards/short/mean"])
        assert entry[REWARDED] == pytest.approx(entry["rewards/short/mean"])
        assert entry[HELD_OUT] == pytest.approx(entry["rewards/walks/mean"])
        assert 0 <= entry[DISTINCT] <= 1
        # Watched beside the traits: it adds nothing to the reward.
        assert 0 <= entry["rewards/sense/mean"] <= 1


def test_the_reward_before_and_after_is_measured_on_held_out_prompts(
    trained: tuple[Path, TrainSummary],
) -> None:
    gain = trained[1].held_out_reward

    assert gain is not None
    assert gain.prompts == 12
    assert gain.gain == pytest.approx(gain.after - gain.before)
    assert gain.low <= gain.gain <= gain.high
    assert gain.unrewarded_before is not None
    assert gain.sense_before is not None and gain.sense_after is not None


def test_a_killed_run_goes_on_with_what_was_measured_before(
    trained: tuple[Path, TrainSummary],
    tiny_model: Path,
    sft_adapter: Path,
    examples: Path,
    small_persona: Persona,
    tmp_path: Path,
) -> None:
    run = run_of(
        recipe_of(GRPO),
        tiny_model,
        examples,
        tmp_path,
        validation=examples,
        adapter=sft_adapter,
        persona=small_persona,
    )
    kill_at(run, 3)

    again = train(run)

    assert again.resumed_from == 2
    assert again.held_out_reward is not None and trained[1].held_out_reward is not None
    assert again.held_out_reward.before == trained[1].held_out_reward.before
    rewards = [[e["reward"] for e in curve(out) if "reward" in e] for out in (trained[0], tmp_path)]
    assert rewards[1][:3] == pytest.approx(rewards[0][:3], abs=1e-6)
    assert len(rewards[1]) == 6


def test_how_rewards_are_added_is_the_recipes_to_say(
    tiny_model: Path, sft_adapter: Path, examples: Path, small_persona: Persona, tmp_path: Path
) -> None:
    more = {"adapter": sft_adapter, "persona": small_persona}
    for changes, expected in (
        ({}, "sum_then_normalize"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "normalize_then_sum"),
    ):
        run = run_of(recipe_of(GRPO, **changes), tiny_model, examples, tmp_path, **more)
        trainer, _ = built(run)
        assert trainer.multi_objective_aggregation == expected


def test_rewards_without_variance_are_told(
    tiny_model: Path,
    sft_adapter: Path,
    examples: Path,
    small_persona: Persona,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # No text of 8 random tokens ends a sentence on all 12 rows with this word: always 0.
    never = small_persona.model_copy(
        update={
            "traits": (
                small_persona.traits[0].model_copy(
                    update={
                        "check": small_persona.traits[1].check.model_copy(
                            update={"patterns": ("zebra",)}
                        )
                    }
                ),
            )
        }
    )
    recipe = recipe_of(GRPO, max_steps=4).model_copy(
        update={"rewards": RewardSettings(held_out=[])}
    )

    summary = train(
        run_of(recipe, tiny_model, examples, tmp_path, adapter=sft_adapter, persona=never)
    )

    assert "got the same reward for 3 steps in a row" in capsys.readouterr().err
    assert len(summary.warnings) == 1
    assert summary.held_out_reward is None


def test_fewer_prompts_than_a_generation_takes_are_one_line(
    tiny_model: Path, sft_adapter: Path, examples: Path, small_persona: Persona, tmp_path: Path
) -> None:
    many = recipe_of(GRPO, gradient_accumulation_steps=8)

    with pytest.raises(UserError, match=r"holds 12 prompts, and 16 are answered together"):
        train(
            run_of(many, tiny_model, examples, tmp_path, adapter=sft_adapter, persona=small_persona)
        )


def test_a_trait_that_is_not_there_is_one_line(
    tiny_model: Path, sft_adapter: Path, examples: Path, small_persona: Persona, tmp_path: Path
) -> None:
    recipe = recipe_of(GRPO).model_copy(update={"rewards": RewardSettings(traits={"shart": 1.0})})

    with pytest.raises(UserError, match=r"no trait 'shart' that a rule checks.*'short'"):
        train(
            run_of(
                recipe, tiny_model, examples, tmp_path, adapter=sft_adapter, persona=small_persona
            )
        )


def test_a_reward_model_of_the_reviews_reads_the_base_and_adds_its_reward(
    tiny_model: Path,
    sft_adapter: Path,
    examples: Path,
    small_persona: Persona,
    tmp_path: Path,
) -> None:
    """With no weight on what the base makes of an answer, each gets the chance of the bias."""
    recipe = recipe_of(GRPO, max_steps=2)
    assert recipe.rewards
    rewards = recipe.rewards.model_copy(update={"reward_model": 2.0})
    recipe = recipe.model_copy(update={"rewards": rewards})
    heads = {"kind": TraitHead(weights=(0.0,) * 64, bias=0.0)}
    more = {"adapter": sft_adapter, "persona": small_persona}
    run = run_of(
        recipe, tiny_model, examples, tmp_path, reward_model=RewardModel(heads=heads), **more
    )

    train(run)

    steps = [entry for entry in curve(tmp_path) if "reward" in entry]
    assert [entry["rewards/reward_model/mean"] for entry in steps] == [0.5, 0.5]
    for entry in steps:
        assert entry["reward"] == pytest.approx(entry["rewards/short/mean"] + 1.0)
    with pytest.raises(UserError, match="give a reward model a weight, and the run names none"):
        train(run_of(recipe, tiny_model, examples, tmp_path / "none", **more))
