"""Self-distillation on the tiny model: who teaches, what is learnt, and a run that was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.recipe import load_recipe
from training.run import TrainSummary
from training.self_distillation import teacher_template
from training.trainer import train
from workbench.errors import UserError, UserErrors
from workbench.persona import Persona

from .conftest import QUANTIZED, SFT, built, curve, kill_at, recipe_of, run_of

SDFT: dict[str, Any] = {
    "method": "sdft",
    "trainer": {
        "per_device_train_batch_size": 4,
        "num_generations": 1,
        "max_prompt_length": 1024,
        "max_completion_length": 6,
        "max_steps": 4,
        "learning_rate": 0.02,
        "distillation_topk": 20,
        "optim": "adamw_torch",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_steps": 2,
        "save_total_limit": 1,
    },
    "lora": SFT["lora"],
    "quantization": QUANTIZED,
}


@pytest.fixture(scope="module")
def trained(
    tiny_model: Path,
    examples: Path,
    small_persona: Persona,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, TrainSummary]:
    out = tmp_path_factory.mktemp("sdft")
    run = run_of(recipe_of(SDFT), tiny_model, examples, out, persona=small_persona)
    return out, train(run)


def test_a_run_leaves_what_every_method_leaves(trained: tuple[Path, TrainSummary]) -> None:
    out, summary = trained
    assert (summary.method, summary.rows, summary.steps) == ("sdft", 12, 4)
    assert {"adapter", "curve.jsonl", "recipe.yaml", "summary.json"} == {
        one.name for one in out.iterdir()
    }
    losses = [one["self_distillation/distillation_loss"] for one in curve(out) if "loss" in one]
    assert len(losses) == 4 and all(loss > 0 for loss in losses)
    assert summary.planned_peak_mib is not None
    config = json.loads((out / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "tiny-llama"


def test_the_teacher_is_the_bare_base_that_reads_persona_and_reviewed_answer(
    tiny_model: Path, examples: Path, small_persona: Persona, tmp_path: Path
) -> None:
    import torch

    voice = small_persona.model_copy(update={"role": "a {kind} trainer"})
    run = run_of(recipe_of(SDFT), tiny_model, examples, tmp_path, persona=voice)
    trainer, _ = built(run)
    model: Any = trainer.model
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.1)  # a student that is no more the base
    rows = [trainer.train_dataset[index] for index in range(2)]
    seen: list[str] = []
    plain = trainer._tokenize_prompts

    def tokenize(prompts: list[Any]) -> Any:
        seen.extend(prompt[-1]["content"] for prompt in prompts)
        return plain(prompts)

    trainer._tokenize_prompts = tokenize
    model.eval()
    with torch.no_grad():
        batch = trainer._prepare_training_batch(rows)
        logits = trainer._compute_teacher_student_logits(model, trainer.teacher_model, batch)
        with model.disable_adapter():
            bare = trainer._forward_logits(
                model,
                batch["teacher_input_ids"],
                batch["teacher_attention_mask"],
                batch["completion_ids"].size(1),
            )
    torch.testing.assert_close(logits.teacher_logits, bare)
    assert not torch.allclose(logits.student_logits, logits.teacher_logits)
    questions, taught = seen[:2], seen[2:]
    for row, question, prompt in zip(rows, questions, taught, strict=True):
        assert question == row["prompt"][-1]["content"]
        assert question in prompt and row["privileged_context"] in prompt
        assert "a {kind} trainer" in prompt and row["privileged_context"] not in question


def test_a_killed_run_goes_on_as_it_would_have(
    trained: tuple[Path, TrainSummary],
    tiny_model: Path,
    examples: Path,
    small_persona: Persona,
    tmp_path: Path,
) -> None:
    run = run_of(recipe_of(SDFT), tiny_model, examples, tmp_path, persona=small_persona)
    kill_at(run, 3)
    again = train(run)
    assert again.resumed_from == 2 and again.steps == 4
    losses = [
        [one["loss"] for one in curve(out) if "loss" in one] for out in (trained[0], tmp_path)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_what_cannot_be_meant_is_one_line(
    tiny_model: Path, examples: Path, small_persona: Persona, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="the run names no persona"):
        train(run_of(recipe_of(SDFT), tiny_model, examples, tmp_path))
    many = recipe_of(SDFT, per_device_train_batch_size=16)
    with pytest.raises(UserError, match="holds 12 prompts, and 16 are answered together"):
        train(run_of(many, tiny_model, examples, tmp_path, persona=small_persona))
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "method: sdft\ntrainer: {teacher_model_kind: ema, max_steps: 2}\nlora: null\n", "utf-8"
    )
    with pytest.raises(UserErrors) as mistakes:
        load_recipe(file)
    lines = "\n".join(mistakes.value.lines())
    assert "no checkpoint holds" in lines and "lora is missing" in lines


def test_the_teachers_words_are_the_personas_language(small_persona: Persona) -> None:
    korean = teacher_template(small_persona.model_copy(update={"language": "ko"}))
    assert "좋은 답변" in korean and "good answer" in teacher_template(small_persona)
