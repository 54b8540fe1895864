from __future__ import annotations

from pathlib import Path

import pytest

from rounds.context import preset_path
from training.recipe import SHIPPED, load_recipe, recipe_path
from training.run import Recipe
from workbench.config import load_config
from workbench.errors import UserError

from .conftest import DPO, GRPO, SFT, WriteRecipe

MISTAKEN = """\
method: sft
trainer:
  max_stepz: 4
  learning_rate: fast
  seed: 3
  optim: adamw_torc
  bf16: true
  fp16: true
  max_steps: true
  save_steps: 7
lora:
  rank_patern: {}
  target_modules: [lm_head]
  lora_dropout: 3
quantization:
  load_in_4bit: true
  bnb_4bit_quant_type: nf5
extra: 1
"""


def told(path: Path, overrides: dict[str, object] | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    return [line.removeprefix(f"{path}:") for line in caught.value.lines()]


def test_every_mistake_is_told_at_once_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MISTAKEN)

    lines = told(path)

    assert [line.split(" ")[0] for line in lines] == [
        "3:",
        "4:",
        "5:",
        "6:",
        "8:",
        "9:",
        "10:",
        "12:",
        "13:",
        "14:",
        "17:",
        "18:",
    ]
    assert lines[0] == ("3: trainer.max_stepz is no field of SFTConfig — did you mean 'max_steps'?")
    assert "should be a valid number" in lines[1]
    assert "give --seed" in lines[2]
    assert "did you mean 'adamw_torch'?" in lines[3]
    assert "trainer.fp16 contradicts bf16" in lines[4]
    assert "trainer.max_steps is True, which is no number" in lines[5]
    assert "make save_steps a multiple of logging_steps" in lines[6]
    assert "did you mean 'rank_pattern'?" in lines[7]
    assert "lm_head" in lines[8] and "never be trained" in lines[8]
    assert "give 0 to 0.99" in lines[9]
    assert "did you mean 'nf4'?" in lines[10]
    assert lines[11].startswith("18: extra is no key of a recipe")


@pytest.mark.parametrize("name", sorted(file.stem for file in SHIPPED.glob("*.yaml")))
def test_a_shipped_recipe_validates_and_its_effective_form_loads_again(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_path(name))
    again = tmp_path / "again.yaml"
    again.write_text(recipe.to_yaml())

    assert recipe.method == name.split("-")[0]
    # PiSSA and OSF take the weights apart, GPT-OSS comes in its own 4 bits; GRPO may need neither.
    if not ("osf" in name or "pissa" in name or "gpt-oss" in name):
        assert recipe.quantization is not None
        assert recipe.quantization["bnb_4bit_quant_type"] == "nf4"
        assert recipe.quantization["bnb_4bit_use_double_quant"] is True
    assert load_recipe(again) == recipe


def test_the_gpu_recipe_holds_the_guides_defaults() -> None:
    trainer = load_recipe(recipe_path("sft")).trainer

    assert (trainer["per_device_train_batch_size"], trainer["gradient_accumulation_steps"]) == (
        2,
        4,
    )
    assert (trainer["max_steps"], trainer["learning_rate"]) == (60, 2e-4)
    assert load_recipe(recipe_path("sft")).lora == {
        "r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": "all-linear",
    }


def test_numbers_as_guides_write_them_are_numbers(tmp_path: Path) -> None:
    # YAML 1.1 reads 2e-4, without a point, as text.
    path = tmp_path / "recipe.yaml"
    path.write_text("method: sft\ntrainer: {learning_rate: 2e-4}\nlora: {r: 8}\n")

    assert load_recipe(path).trainer == {"learning_rate": 2e-4}


def test_overrides_replace_values_and_are_checked_like_them(write_recipe: WriteRecipe) -> None:
    path = write_recipe(SFT)
    overrides = {"trainer.max_steps": 4, "lora.r": 2, "quantization": None}

    recipe = load_recipe(path, overrides)

    assert recipe.trainer["max_steps"] == 4
    assert recipe.lora is not None and recipe.lora["r"] == 2
    assert recipe.quantization is None
    assert told(path, {"trainer.max_step": 4}) == [
        "train.overrides: trainer.max_step is no field of SFTConfig — did you mean 'max_steps'?"
    ]
    assert told(path, {"trainr.max_steps": 4})[0].endswith("did you mean 'trainer'?")


@pytest.mark.parametrize(
    ("base", "change", "expected"),
    [
        (SFT, {"lora": {"bias": "nones"}}, "which is not known — did you mean 'none'?"),
        (SFT, {"trainer": {"max_steps": "many"}}, "trainer.max_steps is 'many', but should be"),
        (SFT, {"trainer": {"save_steps": None}}, "trainer.save_steps is None, but should be"),
        (SFT, {"lora": {"target_modules": 5}}, "lora.target_modules is 5, but should be"),
        (SFT, {"quantization": {"load_in_4bit": "well"}}, "load_in_4bit is 'well', but should be"),
        (SFT, {"lora": {"init_lora_weights": "olora"}}, "is olora, which starts from data"),
        (DPO, {"trainer": {"loss_weights": 2}}, "trainer.loss_weights is 2, but should be"),
        (GRPO, {"trainer": {"num_generations": 1}}, "better only than others to its prompt"),
        (
            GRPO,
            {"trainer": {"multi_objective_aggregation": "normalise_then_sum"}},
            "did you mean 'normalize_then_sum'?",
        ),
        (GRPO, {"trainer": {"num_generations": 0}}, "num_generations is 0, out of range"),
        (
            GRPO,
            {"rewards": {"judge": -1}},
            "judge is -1, but should be greater than or equal",
        ),
        (
            GRPO,
            {"rewards": {"held_out": -0.5}},
            "held_out is -0.5, but should be greater than",
        ),
    ],
)
def test_a_value_that_nobody_can_compute_with_is_one_line(
    base: dict[str, object], change: dict[str, object], expected: str, write_recipe: WriteRecipe
) -> None:
    (line,) = told(write_recipe({**base, **change}))

    assert expected in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"method": "sftt"}, "did you mean 'sft'?"),
        ({"lora": None}, "lora is missing"),
        ({"trainer": {"max_steps": 5, "num_train_epochs": 2}}, "overruled by max_steps"),
        ({"trainer": {"max_steps": 0}}, "trainer.max_steps is 0"),
        (
            {"trainer": {"gradient_checkpointing": True, "activation_checkpointing": False}},
            "contradicts activation_checkpointing",
        ),
        ({"trainer": {"load_best_model_at_end": True}}, "needs an evaluation while training"),
        ({"trainer": {"eval_strategy": "steps", "output_dir": "x"}}, "given by the command"),
        ({"trainer": {"packing": True, "max_length": None, "warmup_steps": -2}}, "warmup_steps"),
        ({"quantization": {"bnb_4bit_quant_type": "nf4"}}, "quantizes nothing"),
        ({"data": "text", "trainer": {"assistant_only_loss": True}}, "is for conversations"),
        (
            {"quantization": {"load_in_4bit": True, "load_in_8bit": True}},
            "contradicts load_in_4bit",
        ),
    ],
)
def test_a_contradiction_is_told(
    change: dict[str, object], expected: str, write_recipe: WriteRecipe
) -> None:
    assert any(expected in line for line in told(write_recipe({**SFT, **change})))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"lora": {"r": 4}}, "fixed by the SFT adapter"),
        ({"trainer": {"loss_type": ["sigmod"]}}, "did you mean 'sigmoid'?"),
        ({"trainer": {"loss_type": ["exo_pair"]}}, "exo_pair needs label_smoothing"),
        ({"trainer": {"loss_weights": [1, 2]}}, "2 weights for 1 losses"),
        ({"trainer": {"sync_ref_model": True}}, "does not work with an adapter"),
        ({"trainer": {"packing": True}}, "trainer.packing is no field of DPOConfig"),
    ],
)
def test_a_contradiction_of_dpo_is_told(
    change: dict[str, object], expected: str, write_recipe: WriteRecipe
) -> None:
    assert any(expected in line for line in told(write_recipe({**DPO, **change})))


def test_a_recipe_cannot_be_changed_or_used_for_another_method(write_recipe: WriteRecipe) -> None:
    recipe = load_recipe(write_recipe(SFT))

    with pytest.raises(ValueError, match="frozen"):
        recipe.method = "dpo"  # type: ignore[misc]
    with pytest.raises(UserError, match="for sft, not for dpo"):
        recipe.require("dpo")
    assert isinstance(recipe, Recipe)


def test_the_default_preset_changes_no_recipe_and_the_embedded_one_rehearses() -> None:
    """Else a recipe for GPUs would be cut short by what fits the embedded one's rows."""
    overrides = load_config(preset_path("default")).train.overrides
    steps = {}
    for name in ("sft", "sft-qwen3-8b", "sft-embedded"):
        recipe = load_recipe(recipe_path(name), overrides.get("sft", {}))
        steps[name] = (recipe.trainer["max_steps"], recipe.rehearsal.rows)
    assert steps == {"sft": (60, 0), "sft-qwen3-8b": (60, 0), "sft-embedded": (46, 32)}


def test_an_unknown_recipe_names_the_nearest_shipped_one() -> None:
    with pytest.raises(UserError, match="did you mean 'sft-embedded'"):
        recipe_path("sft-embeded")


def test_a_folder_of_a_round_is_not_taken_for_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sft").mkdir()
    monkeypatch.chdir(tmp_path)

    assert recipe_path("sft") == SHIPPED / "sft.yaml"
