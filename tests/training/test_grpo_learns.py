"""QLoRA GRPO of the embedded model: the reward on held-out prompts rises, memory is as planned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.run import TrainSummary
from workbench.persona import load_persona
from workbench.records import Example, take_spread, user_prompt
from workbench.store import read_json_lines, write_json, write_records

pytestmark = pytest.mark.slow
CHANGES = {
    # From the base: a new adapter. Twelve tokens are enough for what is rewarded.
    "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "rewards": {"traits": {"address": 1.0}, "held_out": ["no_hedging"]},
    "trainer.gradient_accumulation_steps": 1,
    "trainer.per_device_eval_batch_size": 32,
    "trainer.max_completion_length": 12,
    "trainer.max_steps": 4,
    "trainer.save_steps": 4,
    "trainer.learning_rate": 3e-3,
    "trainer.lr_scheduler_type": "constant",
    "trainer.warmup_steps": 0,
}
RUN = """
import json, sys
from pathlib import Path
from training.recipe import load_recipe, recipe_path
from training.run import TrainingRun
from training.trainer import train
from workbench.inference.embedded import EMBEDDED, embedded_model
from workbench.persona import Persona
folder = Path(sys.argv[1])
changes = json.loads((folder / "changes.json").read_text())
persona = Persona.model_validate_json((folder / "persona.json").read_text())
run = TrainingRun(
    recipe=load_recipe(recipe_path("grpo-embedded"), changes), model=embedded_model(),
    base_name=EMBEDDED, train=folder / "train.jsonl", validation=folder / "validation.jsonl",
    out=folder / "run", persona=persona, seed=0,
)
train(run)
"""


def test_the_reward_rises_on_prompts_that_were_not_trained_on(repo: Path, tmp_path: Path) -> None:
    persona = load_persona(repo / "datasets/gym-trainer")
    # The base never says "champ", and GRPO rewards only what it sees: turning to the asker will do.
    address = next(trait for trait in persona.traits if trait.id == "address")
    you = address.check.model_copy(update={"patterns": (r"\byou(?:r|rself)?\b",)})
    turned = address.model_copy(update={"check": you})
    traits = tuple(turned if trait is address else trait for trait in persona.traits)
    seeds = [row for _, row in read_json_lines(repo / "datasets/gym-trainer/seeds.jsonl")]
    asked = [
        Example(prompt=user_prompt(r["instruction"]), answer="-", topic=r["topic"]) for r in seeds
    ]
    spread = take_spread(asked, 24)
    write_records(tmp_path / "train.jsonl", [row for n, row in enumerate(spread) if n % 3])
    write_records(tmp_path / "validation.jsonl", spread[::3])
    write_json(tmp_path / "changes.json", CHANGES)
    changed = persona.model_copy(update={"traits": traits})
    (tmp_path / "persona.json").write_text(changed.model_dump_json(by_alias=True), encoding="utf-8")

    # A fresh process: what earlier tests left in this one's heap would be used again.
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], check=True, cwd=repo)

    text = (tmp_path / "run" / "summary.json").read_text(encoding="utf-8")
    summary = TrainSummary.model_validate(json.loads(text))
    gain = summary.held_out_reward
    assert gain is not None and gain.prompts == 8
    assert gain.low > 0.3, gain
    assert gain.unrewarded_after is not None and gain.unrewarded_after > 0.5
    assert summary.planned_peak_mib == pytest.approx(summary.peak_resident_mib, rel=0.15)
