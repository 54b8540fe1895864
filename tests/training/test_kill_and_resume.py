"""Whatever the method: a run that was killed goes on to the losses that it would have had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.trainer import train
from workbench.config import METHODS
from workbench.persona import Persona

from .conftest import DPO, GRPO, KTO, SFT, curve, kill_at, recipe_of, run_of
from .test_self_distillation import SDFT

RECIPES: dict[str, dict[str, Any]] = {
    "sft": SFT,
    "dpo": DPO,
    "grpo": GRPO,
    "kto": KTO,
    "sdft": SDFT,
}
STEPS, SAVED, KILLED = 4, 2, 3


def test_every_method_has_its_case() -> None:
    assert set(RECIPES) == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("method", RECIPES)
def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_losses(
    method: str,
    tiny_model: Path,
    examples: Path,
    preferences: Path,
    unpaired: Path,
    sft_adapter: Path,
    small_persona: Persona,
    tmp_path: Path,
) -> None:
    recipe = recipe_of(RECIPES[method], max_steps=STEPS, save_steps=SAVED)
    files = {"dpo": preferences, "kto": unpaired}
    runs = [
        run_of(
            recipe,
            tiny_model,
            files.get(method, examples),
            tmp_path / name,
            adapter=None if recipe.makes_adapter else sft_adapter,
            persona=small_persona if recipe.samples else None,
        )
        for name in ("whole", "killed")
    ]
    whole = train(runs[0])
    kill_at(runs[1], KILLED)
    again = train(runs[1])
    assert (whole.resumed_from, again.resumed_from, again.steps) == (0, SAVED, STEPS)
    first, last = ([one for one in curve(run.out) if "loss" in one] for run in runs)
    assert [one["step"] for one in last] == list(range(1, STEPS + 1))
    losses = [one["loss"] for one in first]
    assert [one["loss"] for one in last] == pytest.approx(losses, rel=1e-3, abs=1e-5)
    # What was counted before the kill counts.
    assert again.tokens == whole.tokens > 0
    assert not runs[1].checkpoints.exists()
    leaves = [sorted(path.name for path in run.out.iterdir()) for run in runs]
    assert leaves[0] == leaves[1]
