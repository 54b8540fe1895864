"""QLoRA GRPO on the embedded model, for real: the reward on held-out prompts rises."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.grpo import train_grpo
from training.recipe import load_recipe, recipe_path
from workbench.embedded import EMBEDDED, embedded_model
from workbench.persona import load_persona
from workbench.records import Example, user_prompt
from workbench.sampling import take_spread
from workbench.store import read_json_lines, write_records

pytestmark = pytest.mark.slow

SMALL = {
    "trainer.max_completion_length": 24,
    "trainer.max_steps": 8,
    "trainer.learning_rate": 1.0e-3,
    # The adapter is new: the test needs no SFT first.
    "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "rewards": {"traits": {"address": 1.0}, "held_out": ["no_hedging"]},
}


def test_a_form_of_address_is_learnt_and_shows_on_held_out_prompts(
    repo: Path, tmp_path: Path
) -> None:
    persona = load_persona(repo / "datasets/gym-trainer")
    # The bare base says "you" in about half of its openings and "champ" in none: GRPO can only
    # reward what it sees, so the test's form of address is one that the base has now and then.
    traits = tuple(
        trait.model_copy(
            update={"check": trait.check.model_copy(update={"patterns": (r"\byou\b|\byour\b",)})}
        )
        if trait.id == "address"
        else trait
        for trait in persona.traits
    )
    rows = [
        Example(prompt=user_prompt(row["instruction"]), answer="-", topic=row["topic"])
        for _, row in read_json_lines(repo / "datasets/gym-trainer/seeds.jsonl")
    ]
    spread = take_spread(rows, 32)
    write_records(tmp_path / "train.jsonl", spread[::2])
    write_records(tmp_path / "validation.jsonl", spread[1::2])

    summary = train_grpo(
        load_recipe(recipe_path("grpo-embedded"), SMALL),
        embedded_model(),
        None,
        tmp_path / "train.jsonl",
        tmp_path / "validation.jsonl",
        tmp_path / "run",
        persona=persona.model_copy(update={"traits": traits}),
        seed=0,
        base_name=EMBEDDED,
    )

    gain = summary.held_out_reward
    assert gain is not None and gain.prompts == 16
    assert gain.low > 0, gain
    assert gain.unrewarded_after is not None
