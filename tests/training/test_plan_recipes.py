from __future__ import annotations

import pytest

from training.plan.recipes import dry_run
from training.recipe import recipe_path

from .conftest import SFT, WriteRecipe


def test_a_recipe_with_a_mistake_is_told_in_the_table(write_recipe: WriteRecipe) -> None:
    run = dry_run(write_recipe({**SFT, "lora": {"rank": 8}}))

    assert "recipe.yaml:" in run.problem and "is no field of LoraConfig" in run.problem
    assert run.peak_mib == 0


@pytest.mark.parametrize(
    ("name", "shape", "trained"),
    [
        # r 16 on all linear layers: q and o 4096+4096, k and v 4096+1024, three of 4096+14336.
        ("sft", "llama3-8b", 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18432)),
        ("sft-embedded", "smollm2-135m", 30 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112)),
        # It goes on with the adapter that sft-embedded has made.
        ("sft-continue-embedded", "smollm2-135m", 30 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112)),
        # The language part alone: four of 1024+1024, three of 1024+2816; none of the vision part.
        ("sft-vision", "llava-qwen-0.5b", 24 * 16 * (4 * 2048 + 3 * 3840)),
    ],
)
def test_a_recipe_is_planned_on_the_shape_it_was_made_for(
    name: str, shape: str, trained: int
) -> None:
    run = dry_run(recipe_path(name))

    assert (run.shape, run.trained, run.problem) == (shape, trained, "")
    # 8 billion weights in 4 bits and half a billion in 16 do not fit 4 GiB, but do fit 16.
    least, most = (4096, 16384) if name == "sft" else (500, 4096)
    assert least < run.peak_mib < most
