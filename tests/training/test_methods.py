from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from training.recipe import load_recipe, recipe_path
from training.run import Recipe, TrainSummary
from training.trainer import train
from workbench.errors import UserError
from workbench.records import UnpairedPreference, user_prompt
from workbench.store import file_hash, write_records

from .conftest import BASE, DPO, KTO, curve, recipe_of, run_of


def recipe(**trainer: object) -> Recipe:
    return recipe_of(DPO, **trainer)


@pytest.fixture(scope="module", params=[False, True], ids=["second adapter", "precomputed"])
def trained(
    request: pytest.FixtureRequest,
    tiny_model: Path,
    sft_adapter: Path,
    preferences: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, TrainSummary]:
    out = tmp_path_factory.mktemp("dpo")
    summary = train(
        run_of(
            recipe(precompute_ref_log_probs=request.param),
            tiny_model,
            preferences,
            out,
            adapter=sft_adapter,
        )
    )
    return out, summary


def test_the_loss_starts_at_ln_2_and_the_margin_rises(
    trained: tuple[Path, TrainSummary],
) -> None:
    out, summary = trained
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    margins = [entry["rewards/margins"] for entry in curve]

    # Equal policy and reference: every log-ratio is 0, whatever the pair.
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=2e-3)
    assert margins[0] == pytest.approx(0, abs=5e-3)
    assert margins[-1] > margins[0] + 0.1
    assert summary.loss_last < math.log(2) - 0.05
    assert summary.final["rewards/accuracies"] == 1.0


@pytest.mark.parametrize("variant", ["dpo-ipo", "dpo-robust", "dpo-apo", "dpo-mpo"])
def test_a_variant_of_the_loss_starts_where_its_formula_says(
    variant: str, tiny_model: Path, sft_adapter: Path, preferences: Path, tmp_path: Path
) -> None:
    said = load_recipe(recipe_path(variant)).trainer
    names = ("loss_type", "loss_weights", "label_smoothing")
    changed = recipe(**{n: said[n] for n in names if n in said}, max_steps=2, save_steps=2)

    summary = train(run_of(changed, tiny_model, preferences, tmp_path, adapter=sft_adapter))

    # With policy and reference equal: (0 - 1/(2 beta))^2 for IPO, 1 - 1/2 + 1/2 for APO-zero.
    starts = {"dpo-ipo": 25.0, "dpo-robust": math.log(2), "dpo-apo": 1.0}
    if variant in starts:
        assert summary.loss_first == pytest.approx(starts[variant], rel=5e-3)
    else:
        assert math.isfinite(summary.loss_first)


def test_only_the_trained_adapter_is_written(
    trained: tuple[Path, TrainSummary], sft_adapter: Path
) -> None:
    out, _ = trained
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())

    assert not (out / "adapter" / "ref").exists()
    assert config["base_model_name_or_path"] == BASE
    assert config["r"] == 8
    assert file_hash(out / "adapter" / "adapter_model.safetensors") != file_hash(
        sft_adapter / "adapter_model.safetensors"
    )


def test_the_trained_adapter_loads_with_plain_peft(
    trained: tuple[Path, TrainSummary], tiny_model: Path
) -> None:
    from peft import PeftModel

    from workbench.inference.base_models import load_model

    out, summary = trained
    model = PeftModel.from_pretrained(load_model(tiny_model), out / "adapter")

    assert list(model.peft_config) == ["default"]
    assert (
        sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
        == summary.trainable_parameters
    )


def test_an_adapter_for_another_base_is_refused_by_its_name(
    tiny_model: Path, sft_adapter: Path, preferences: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="was trained on tiny-llama, not on other-base"):
        train(
            run_of(
                recipe(),
                tiny_model,
                preferences,
                tmp_path,
                adapter=sft_adapter,
                base_name="other-base",
            )
        )


def test_an_adapter_for_another_base_is_refused_by_its_shapes(
    tiny_model: Path, sft_adapter: Path, preferences: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    wider = tmp_path / "wider"
    config = LlamaConfig.from_pretrained(tiny_model, hidden_size=128, intermediate_size=256)
    LlamaForCausalLM(config).save_pretrained(wider)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(wider)

    with pytest.raises(UserError, match=r"size mismatch for .*q_proj.lora_A"):
        train(run_of(recipe(), wider, preferences, tmp_path / "out", adapter=sft_adapter))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_that_is_cut_short_is_one_line(
    name: str, tiny_model: Path, sft_adapter: Path, preferences: Path, tmp_path: Path
) -> None:
    import shutil

    cut = tmp_path / "adapter"
    shutil.copytree(sft_adapter, cut)
    (cut / name).write_bytes((cut / name).read_bytes()[:100])

    with pytest.raises(UserError, match=rf"{name}: cannot be read.*train that adapter again"):
        train(run_of(recipe(), tiny_model, preferences, tmp_path / "out", adapter=cut))


def test_a_folder_without_an_adapter_is_one_line(
    tiny_model: Path, preferences: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no adapter there.*train SFT first"):
        train(run_of(recipe(), tiny_model, preferences, tmp_path / "out", adapter=tmp_path))


def test_desirable_answers_become_likelier_than_undesirable_ones(
    tiny_model: Path, sft_adapter: Path, unpaired: Path, tmp_path: Path
) -> None:
    summary = train(
        run_of(
            recipe_of(KTO), tiny_model, unpaired, tmp_path, validation=unpaired, adapter=sft_adapter
        )
    )
    steps = [entry for entry in curve(tmp_path) if "loss" in entry]
    up, down = (steps[-1][f"rewards/{kind}"] for kind in ("chosen", "rejected"))

    # With policy and reference equal every reward is 0, and so is the estimate of the KL term.
    assert steps[0]["loss"] == pytest.approx(0.5, abs=0.02)
    assert up > down + 0.05
    assert (summary.method, summary.rows, summary.steps) == ("kto", 12, 8)


def test_answers_of_one_kind_are_refused(
    tiny_model: Path, sft_adapter: Path, tmp_path: Path
) -> None:
    path = tmp_path / "unpaired.jsonl"
    write_records(
        path, [UnpairedPreference(prompt=user_prompt("walk?"), answer="walk", label=True)]
    )

    with pytest.raises(UserError, match=r"holds desirable answers alone.*turned down"):
        train(run_of(recipe_of(KTO), tiny_model, path, tmp_path / "out", adapter=sft_adapter))
