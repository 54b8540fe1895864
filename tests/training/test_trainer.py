from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.device import quiet
from training.recipe import load_recipe
from training.run import Recipe, TrainSummary
from training.trainer import _last_checkpoint, train
from training.trl_patches import cpu_lm_head
from workbench.errors import UserError
from workbench.inference.adapters import save_adapter
from workbench.inference.base_models import load_model, load_tokenizer
from workbench.records import Example, Message, as_messages, user_prompt
from workbench.store import file_hash, read_records, write_records

from .conftest import SFT, built, curve, kill_at, recipe_of, run_of

BASE = "tiny-llama"


def recipe(**trainer: object) -> Recipe:
    return recipe_of(SFT, **trainer)


@pytest.fixture(scope="module")
def trained(
    tiny_model: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainSummary]:
    out = tmp_path_factory.mktemp("sft")
    evaluated = recipe(eval_strategy="steps", eval_steps=6)
    summary = train(run_of(evaluated, tiny_model, examples, out, validation=examples, seed=3))
    return out, summary


def test_the_loss_falls_and_every_file_is_there(trained: tuple[Path, TrainSummary]) -> None:
    out, summary = trained
    losses = [entry["loss"] for entry in curve(out) if "loss" in entry]
    held_out = [entry["eval_loss"] for entry in curve(out) if "eval_loss" in entry]

    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.5
    assert len(held_out) == 2 and held_out[1] < held_out[0]
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter",
        "curve.jsonl",
        "recipe.yaml",
        "summary.json",
    ]
    assert TrainSummary.model_validate_json((out / "summary.json").read_text()) == summary
    assert (summary.steps, summary.rows, summary.validation_rows) == (12, 12, 12)
    assert (summary.loss_first, summary.loss_last) == (losses[0], losses[-1])
    assert summary.cut_rows == 0 and summary.resumed_from == 0
    assert 0 < summary.seconds <= summary.total_seconds
    seconds = [entry["seconds"] for entry in curve(out)]
    assert seconds == sorted(seconds)


def test_the_effective_recipe_is_written_and_loads(trained: tuple[Path, TrainSummary]) -> None:
    out, _ = trained
    written = load_recipe(out / "recipe.yaml")

    assert written.trainer["max_steps"] == 12
    assert isinstance(written.trainer["bf16"], bool)
    assert written.quantization is not None
    assert written.quantization["bnb_4bit_compute_dtype"] in ("bfloat16", "float16", "float32")


def test_the_adapter_loads_with_plain_peft_and_names_no_path(
    trained: tuple[Path, TrainSummary], tiny_model: Path
) -> None:
    from peft import PeftModel

    out, summary = trained
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    model = PeftModel.from_pretrained(load_model(tiny_model), out / "adapter")
    loaded = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)

    assert config["base_model_name_or_path"] == BASE
    assert not [p for p in (out / "adapter").iterdir() if str(tiny_model) in p.read_text("latin-1")]
    assert not list((out / "adapter").glob("*.bin"))
    assert loaded == summary.trainable_parameters
    assert any(p.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)


def test_the_same_seed_gives_the_same_adapter_and_another_does_not(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    weights = "adapter/adapter_model.safetensors"
    short = recipe(max_steps=2)
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        train(run_of(short, tiny_model, examples, tmp_path / name, seed=seed))

    one, same, other = (file_hash(tmp_path / n / weights) for n in ("one", "same", "other"))
    assert same == one
    assert other != one


def batch(tiny_model: Path, examples: Path, out: Path) -> tuple[Any, Any]:
    with quiet(), cpu_lm_head():
        trainer, parts = built(run_of(recipe(), tiny_model, examples, out))
        return next(iter(trainer.get_train_dataloader())), (trainer, parts)


def test_the_end_of_turn_token_is_trained_on_and_padding_is_not(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    rows, (_, parts) = batch(tiny_model, examples, tmp_path)
    tokenizer = parts.tokenizer

    # The trap: the padding token is the end-of-turn token.
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    for ids, labels, mask in zip(
        rows["input_ids"].tolist(),
        rows["labels"].tolist(),
        rows["attention_mask"].tolist(),
        strict=True,
    ):
        learned = [label for label in labels if label != -100]
        assert learned.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(learned).startswith("champ walks")
        assert all(label == -100 for label, real in zip(labels, mask, strict=True) if not real)
        assert all(a == b for a, b in zip(ids, labels, strict=True) if b != -100)


def test_every_answer_of_a_conversation_is_in_the_labels_where_it_is_asked_for(
    tiny_model: Path, tmp_path: Path
) -> None:
    turns = (*user_prompt("why"), Message(role="assistant", content="walks up"))
    row = Example(prompt=(*turns, *user_prompt("and then")), answer="walks down")
    write_records(tmp_path / "train.jsonl", [row])
    asked = recipe(assistant_only_loss=True, per_device_train_batch_size=2)
    with quiet(), cpu_lm_head():
        trainer, parts = built(run_of(asked, tiny_model, tmp_path / "train.jsonl", tmp_path))
        labels = next(iter(trainer.get_train_dataloader()))["labels"].tolist()
    learned = [parts.tokenizer.decode([t for t in one if t != -100]) for one in labels]
    assert sorted(text.split("<")[0] for text in learned) == ["walks down", "walks up"]


def test_a_training_row_starts_with_the_prompt_as_it_is_at_inference(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    _, (trainer, _) = batch(tiny_model, examples, tmp_path)
    tokenizer = load_tokenizer(tiny_model)

    for example, row in zip(read_records(examples, Example), trainer.train_dataset, strict=True):
        prompt = tokenizer.apply_chat_template(
            as_messages(example.prompt), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert row["input_ids"][: len(prompt)] == prompt
        assert row["labels"][: len(prompt)] == [-100] * len(prompt)
        assert row["labels"][len(prompt)] == row["input_ids"][len(prompt)]


def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_adapter(
    trained: tuple[Path, TrainSummary],
    tiny_model: Path,
    examples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "killed"
    evaluated = recipe(eval_strategy="steps", eval_steps=6)
    run = run_of(evaluated, tiny_model, examples, out, validation=examples, seed=3)
    kill_at(run, 10)
    # What a kill in the middle of a write leaves behind.
    (out / "checkpoints" / "checkpoint-11").mkdir()

    summary = train(run)

    assert summary.resumed_from == 8
    assert "going on from step 8" in capsys.readouterr().err
    assert [e["step"] for e in curve(out) if "loss" in e] == list(range(1, 13))
    whole = [e["loss"] for e in curve(trained[0]) if "loss" in e]
    assert [e["loss"] for e in curve(out) if "loss" in e] == pytest.approx(whole, rel=1e-3)
    assert summary.tokens == trained[1].tokens > 0
    assert not (out / "checkpoints").exists()


def test_checkpoints_of_another_run_are_not_gone_on_from(
    tiny_model: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(recipe(), tiny_model, examples, tmp_path)
    checkpoint = run.checkpoints / "checkpoint-4"
    assert _last_checkpoint(run) is None
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text('{"global_step": 4}')

    assert _last_checkpoint(run) == checkpoint
    assert _last_checkpoint(run.model_copy(update={"seed": 1})) is None
    assert not checkpoint.exists()
    assert "different run" in capsys.readouterr().err


def test_no_rows_are_one_line(tiny_model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "train.jsonl"
    empty.touch()

    with pytest.raises(UserError, match=r"train.jsonl: has no rows to train on"):
        train(run_of(recipe(), tiny_model, empty, tmp_path / "out"))


def test_rows_over_max_length_are_counted_and_told(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.jsonl"
    prompts = ["short", "short", "long " * 100]
    answers = ["walks", "walks " * 100, "walks"]
    rows = [
        Example(prompt=user_prompt(prompt), answer=answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    write_records(path, rows)

    short = recipe(max_length=64, max_steps=1, save_steps=1)
    summary = train(run_of(short, tiny_model, path, tmp_path / "out"))

    told = capsys.readouterr().err
    left_out, cut = rows[2].id, rows[1].id
    lines = [
        f"1 of 3 rows left out, their prompt alone fills max_length (64 tokens): {left_out}",
        "1 of 2 rows are longer than max_length (64 tokens) and lose their end; raise max_length"
        f" to keep it: {cut}",
    ]
    assert all(line in told for line in lines)
    assert (summary.rows, summary.cut_rows, summary.left_out) == (2, 1, 1)


def test_what_only_trl_knows_to_be_wrong_is_one_line(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"TRL refuses the recipe.*padding_free.*SFTConfig"):
        train(run_of(recipe(padding_free=True), tiny_model, examples, tmp_path / "out"))


def test_a_max_length_that_leaves_no_answer_is_refused(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no row teaches anything: .* fills max_length"):
        train(run_of(recipe(max_length=8), tiny_model, examples, tmp_path / "out"))


def test_nothing_of_the_libraries_is_printed(
    tiny_model: Path, examples: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(run_of(recipe(max_steps=2), tiny_model, examples, tmp_path / "out"))

    printed = capfd.readouterr()
    assert printed.out == ""
    said = [line.split(":")[0].strip() for line in printed.err.splitlines()]
    assert said == ["Training SFT", "peak memory"]
    assert "loss" in printed.err


def test_an_adapter_is_replaced_whole(tiny_model: Path, examples: Path, tmp_path: Path) -> None:
    _, (trainer, _) = batch(tiny_model, examples, tmp_path)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "stale").touch()

    save_adapter(trainer.model, folder, BASE)

    assert not (folder / "stale").exists()
    assert not (tmp_path / ".adapter.partial").exists()
    assert (folder / "adapter_model.safetensors").stat().st_size > 0
