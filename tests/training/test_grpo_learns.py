"""QLoRA GRPO for real on a small random model: the reward on held-out prompts rises."""

from __future__ import annotations

from pathlib import Path

from training.grpo import train_grpo
from workbench.persona import Persona

from .conftest import BASE, GRPO, QUANTIZED, SFT, recipe_of

STEPS = {
    "num_generations": 8,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32,
    "max_steps": 6,
    "save_steps": 6,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
}


def test_the_reward_rises_on_prompts_that_were_not_trained_on(
    tiny_model: Path, examples: Path, small_persona: Persona, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Random weights leave the words almost equally likely whatever the layers learn: a head of
    # larger weights lets what they learn show.
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.lm_head.weight.data *= 10
    model.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "base")
    lines = examples.read_text(encoding="utf-8").splitlines(keepends=True)
    for name, side in (("train", lines[::2]), ("validation", lines[1::2])):
        (tmp_path / f"{name}.jsonl").write_text("".join(side), encoding="utf-8")
    # Random text shows these letters now and then: GRPO can only reward what it sees.
    short, walks, kind = small_persona.traits
    letters = walks.check.model_copy(update={"patterns": ("k|ch",)})
    traits = (short, walks.model_copy(update={"check": letters}), kind)
    rewards = {"traits": {"walks": 1.0}, "held_out": ["short"]}
    recipe = recipe_of(GRPO, **STEPS).model_copy(
        update={"lora": SFT["lora"], "quantization": QUANTIZED, "rewards": rewards}
    )

    summary = train_grpo(
        recipe,
        tmp_path / "base",
        None,
        tmp_path / "train.jsonl",
        tmp_path / "validation.jsonl",
        tmp_path / "run",
        persona=small_persona.model_copy(update={"traits": traits}),
        seed=0,
        base_name=BASE,
    )

    gain = summary.held_out_reward
    assert gain is not None and gain.prompts == 6
    assert gain.low > 0.3, gain
