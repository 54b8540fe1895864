"""Every kind of adapter and of architecture really takes steps, on random weights of its class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from training.recipe import load_recipe, recipe_path
from training.run import Recipe
from training.trainer import train
from workbench.inference.adapters import load_adapter
from workbench.inference.base_models import load_model

from .conftest import BASE, SFT, TRAINER, building_with, built, curve, run_of

STEPS = {**TRAINER, "max_steps": 2, "save_steps": 2, "per_device_train_batch_size": 2}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "sft-qwen3-8b": ("Qwen3Config", {"head_dim": 16}),
    "sft-gemma3-4b": ("Gemma3TextConfig", {"head_dim": 16, "sliding_window": 64}),
    "sft-gpt-oss-20b": (
        "GptOssConfig",
        {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64},
    ),
}


def shipped(name: str, **trainer: object) -> Recipe:
    """A shipped recipe, for two steps of the tiny model on any machine."""
    recipe = load_recipe(recipe_path(name))
    keep = (
        ("packing", "packing_strategy", "max_length") if "text" in name or "vision" in name else ()
    )
    kept = {key: recipe.trainer[key] for key in keep if key in recipe.trainer}
    bits = recipe.quantization
    if bits and "load_in_4bit" in bits:
        # The shipped one computes in bfloat16, a GPU's choice.
        bits = {k: v for k, v in bits.items() if k != "bnb_4bit_compute_dtype"}
    elif bits:
        bits = None  # MXFP4 unpacks a checkpoint in that format; random weights have none
    return recipe.model_copy(update={"trainer": {**STEPS, **kept, **trainer}, "quantization": bits})


def config_of(out: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((out / "adapter" / "adapter_config.json").read_text())
    return config


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(20, 40)[None]).logits.float()


@pytest.mark.parametrize("kind", ["dora", "rslora", "loraplus", "pissa", "osf"])
def test_a_kind_of_adapter_learns_and_loads_onto_the_untouched_base(
    kind: str, tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel

    # The loss of all rows, before and after: that of a step is of two rows, another two each time.
    watched = {"eval_strategy": "steps", "eval_steps": 4, "eval_on_start": True}
    # rsLoRA's scale at rank 64 is 8 times LoRA's, and LoRA+ learns B 16 times as fast as A.
    rate = {"rslora": 0.002, "loraplus": 0.002}.get(kind, 0.01)
    recipe = shipped(f"sft-{kind}", max_steps=4, save_steps=4, learning_rate=rate, **watched)
    train(run_of(recipe, tiny_model, examples, tmp_path, validation=examples))
    losses = [entry["eval_loss"] for entry in curve(tmp_path) if "eval_loss" in entry]
    base = load_model(tiny_model, dtype=torch.float32)
    before = logits(base)
    after = logits(PeftModel.from_pretrained(base, tmp_path / "adapter"))
    config = config_of(tmp_path)

    assert len(losses) == 2
    assert losses[1] < losses[0] - 0.1
    assert (before - after).abs().max() > 1e-3
    assert not list((tmp_path / "adapter").glob("*.bin"))
    if kind == "pissa":
        # The base is as it was: what is written is an ordinary LoRA of twice the rank.
        assert config["init_lora_weights"] is True
        assert config["r"] == 32
    else:
        expected = {
            "dora": ("use_dora", True),
            "rslora": ("use_rslora", True),
            "loraplus": ("r", 16),
            "osf": ("peft_type", "OSF"),
        }
        name, value = expected[kind]
        assert config[name] == value


def test_loraplus_gives_b_sixteen_times_the_rate_of_a(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    trainer, _ = built(run_of(shipped("sft-loraplus"), tiny_model, examples, tmp_path))
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    rates = {
        names[id(p)].split(".")[-3]: group["lr"]
        for group in trainer.optimizer.param_groups
        for p in group["params"]
    }

    assert rates["lora_B"] == pytest.approx(16 * rates["lora_A"])


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_a_recipe_of_an_architecture_takes_steps_on_random_weights_of_its_class(
    name: str, tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    import torch
    import transformers

    kind, more = ARCHITECTURES[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    config = getattr(transformers, kind)(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **more,
    )
    torch.manual_seed(0)
    base = tmp_path / "base"
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(base)
    tokenizer.save_pretrained(base)

    summary = train(run_of(shipped(name), base, examples, tmp_path / "out"))

    assert summary.steps == 2
    if "gpt-oss" in name:
        from safetensors import safe_open

        weights = tmp_path / "out" / "adapter" / "adapter_model.safetensors"
        with safe_open(weights, "pt") as file:
            experts = [key for key in file.keys() if "mlp.experts" in key]  # noqa: SIM118
        assert experts, "no adapter on the experts"
        # DPO, a later round and every export go on from it.
        loaded = dict(load_adapter(load_model(base), weights.parent, BASE).named_parameters())
        assert any("mlp.experts" in name and "lora_B" in name for name in loaded)


def test_raw_text_is_packed_and_learnt_without_a_chat_template(
    tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "chat_template.jinja").unlink()
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(f"the trainer walks {n} today" for n in range(40)))

    recipe = shipped("sft-text", max_steps=4, save_steps=4, max_length=64)
    summary = train(run_of(recipe, base, path, tmp_path / "out"))
    losses = [entry["loss"] for entry in curve(tmp_path / "out") if "loss" in entry]

    assert summary.rows == 40
    assert losses[-1] < losses[0]
    # Packed: 2 rows a step would hold some 20 tokens; blocks of 64 hold most of them.
    assert summary.tokens > 4 * 2 * 40


def test_a_text_longer_than_a_sequence_is_learnt_to_its_end(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.txt"
    words = " ".join(f"trainer walks {n}" for n in range(100))
    path.write_bytes(f"{words}\r\n\r\nchampion".encode())

    def packed(strategy: str) -> int:
        recipe = shipped("sft-text", max_length=64, packing_strategy=strategy)
        trainer, _ = built(run_of(recipe, tiny_model, path, tmp_path))
        return sum(len(row["input_ids"]) for row in trainer.train_dataset)

    shipped_strategy = load_recipe(recipe_path("sft-text")).trainer["packing_strategy"]
    assert packed(shipped_strategy) > 200
    assert "lose their end" not in capsys.readouterr().err
    assert packed("bfd") < 100
    assert "1 of 2 rows are longer than max_length (64 tokens)" in capsys.readouterr().err


def test_instructions_are_chats_of_their_two_halves(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "alpaca.jsonl"
    rows = [
        {"instruction": "walk", "input": f"chair {n}" if n else None, "output": "champ walks"}
        for n in range(4)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))

    summary = train(run_of(shipped("sft-instruction"), tiny_model, path, tmp_path / "out"))

    assert (summary.rows, summary.steps) == (4, 2)


def test_training_stops_early_when_the_validation_loss_falls_too_little(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    recipe = shipped(
        "sft-early-stop",
        max_steps=30,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
    )
    # No loss falls by 100: the second evaluation after the first ends the run.
    strict = {"early_stopping_patience": 2, "early_stopping_threshold": 100.0}
    recipe = recipe.model_copy(update={"early_stopping": strict})

    summary = train(run_of(recipe, tiny_model, examples, tmp_path, validation=examples))

    assert summary.steps == 6
    assert [text[:30] for text in summary.warnings] == ["stopped early after step 6 of "]


def test_patience_is_not_counted_anew_by_a_run_that_goes_on(
    tiny_model: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate(
        {
            **SFT,
            "trainer": {
                **STEPS,
                "max_steps": 12,
                "eval_strategy": "steps",
                "eval_steps": 2,
                # Better is higher, as transformers knows by the name: it falls short of 100 always.
                "metric_for_best_model": "mean_token_accuracy",
            },
            "early_stopping": {"early_stopping_patience": 2, "early_stopping_threshold": 100.0},
        }
    )
    run = run_of(recipe, tiny_model, examples, tmp_path, validation=examples)
    with monkeypatch.context() as patched:
        patched.setattr("training.trainer.build", building_with(_Dies()))
        with pytest.raises(KeyboardInterrupt):
            train(run)
    summary = train(run)

    # The evaluations after steps 4 and 6 were no better than that after step 2.
    assert (summary.resumed_from, summary.steps) == (4, 6)
    assert "mean_token_accuracy has not got better" in summary.warnings[0]


class _Dies(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert args.greater_is_better is True
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_early_stop_without_validation_rows_is_told(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({**SFT, "early_stopping": {"early_stopping_patience": 1}})
    short = recipe.model_copy(update={"trainer": STEPS})

    summary = train(run_of(short, tiny_model, examples, tmp_path))

    assert summary.warnings == ("no validation rows, so no early stop",)
