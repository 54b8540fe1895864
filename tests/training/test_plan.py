from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.data import read_examples
from training.methods import read_rows
from training.plan import memory
from training.plan.lengths import Lengths
from training.plan.memory import _smaller, changed, parts
from training.plan.model_shapes import measure_shapes, planned_adapter, read_config
from training.plan.plan import (
    EstimateRequest,
    Plan,
    against,
    count_steps,
    fit_line,
    make_plan,
    profile_of,
    table,
)
from training.plan.recipes import dry_run
from training.recipe import recipe_path
from training.run import Recipe
from workbench.inference.base_models import load_model, load_tokenizer

from .conftest import DPO, GRPO, KTO, SFT, WriteRecipe, run_of


def recipe(base: dict[str, Any] = SFT, **trainer: Any) -> Recipe:
    return Recipe.model_validate({**base, "trainer": {**base["trainer"], **trainer}})


def request(
    tiny_model: Path, examples: Path, gpu_memory: int | None = None, **trainer: Any
) -> EstimateRequest:
    return request_of(recipe(**trainer), tiny_model, examples, gpu_memory=gpu_memory)


def request_of(planned: Recipe, tiny_model: Path, rows: Path, **more: Any) -> EstimateRequest:
    run = run_of(planned, tiny_model, rows, rows.parent)
    return EstimateRequest(run, read_rows(planned, rows), **more)


def test_shapes_are_those_of_the_real_model_and_adapter(tiny_model: Path) -> None:
    from peft import get_peft_model

    adapter = planned_adapter(recipe())
    shapes = measure_shapes(read_config(tiny_model), adapter)

    real = load_model(tiny_model)
    assert shapes.packed + shapes.plain == sum(p.numel() for p in real.parameters())
    # Two blocks: q and o 64 x 64, k and v 32 x 64, three of 128 x 64.
    assert shapes.packed == 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64)
    assert shapes.widest == 128 * 64
    assert shapes.kv_width == 2 * 2 * 16
    trained = get_peft_model(real, adapter).parameters()
    assert shapes.adapter == sum(p.numel() for p in trained if p.requires_grad)


def test_tokens_are_those_that_the_tokenizer_makes_of_the_rows(
    tiny_model: Path, examples: Path
) -> None:
    profile = profile_of(request(tiny_model, examples))
    tokenizer = load_tokenizer(tiny_model)

    row = next(iter(read_examples(examples)))
    whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)
    assert profile.lengths.whole[0] == len(whole["input_ids"])
    assert 0 < profile.lengths.answer[0] < profile.lengths.whole[0]
    assert profile.lengths.rows == 12


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({"max_steps": 7}, 7),
        # 12 rows in batches of 4 are 3 a round.
        ({"max_steps": -1, "num_train_epochs": 2}, 6),
        # Two batches are accumulated, and the third is a step of its own.
        ({"max_steps": -1, "num_train_epochs": 1, "gradient_accumulation_steps": 2}, 2),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(
    tiny_model: Path, examples: Path, trainer: dict[str, Any], steps: int
) -> None:
    profile = profile_of(request(tiny_model, examples, **trainer))

    assert count_steps(profile.arguments, profile.lengths) == steps


def test_grpo_takes_the_prompts_of_whole_generations(tiny_model: Path, examples: Path) -> None:
    # 8 completions are 2 prompts' a generation, passed through twice: 12 prompts, 12 steps a round.
    grpo = recipe(GRPO, max_steps=-1, num_train_epochs=1, num_iterations=2)
    asked = request_of(grpo, tiny_model, examples, lora=SFT["lora"])
    profile = profile_of(asked)

    assert count_steps(profile.arguments, profile.lengths) == 12
    assert count_steps(profile.arguments, replace(profile.lengths, rows=5)) == 4


def test_rows_that_are_packed_are_counted_as_full_sequences(tmp_path: Path) -> None:
    packed = Lengths(4, (30, 20, 40, 10), (30, 20, 40, 10)).packed(64)

    assert (packed.rows, packed.whole, packed.answer) == (2, (64, 36), (64, 36))
    assert packed.mean == 50


def test_a_plan_of_packed_text_counts_the_tokens_of_its_steps(
    tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(f"the trainer walks {n} today" for n in range(200)))
    text = Recipe.model_validate(
        {**SFT, "data": "text", "trainer": {**SFT["trainer"], "packing": True, "max_length": 64}}
    )

    plan = make_plan(request_of(text, tiny_model, path), timed=False)

    assert plan.batch == (4, 64)
    assert plan.tokens == pytest.approx(12 * 4 * 64, rel=0.05)


def test_what_osf_keeps_frozen_is_counted(tiny_model: Path) -> None:
    from peft import OSFConfig, get_peft_model

    adapter = OSFConfig(
        task_type="CAUSAL_LM", effective_rank=0.5, target_modules=["q_proj", "down_proj"]
    )
    shapes = measure_shapes(read_config(tiny_model), adapter)

    real = get_peft_model(load_model(tiny_model), adapter)
    kept = [held.numel() for name, held in real.named_buffers() if "_osf_" in name]
    assert shapes.frozen == sum(kept) > 0
    assert shapes.adapter == sum(p.numel() for p in real.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("optim", "states"), [("adamw_torch", 2), ("lion_32bit", 1), ("sgd", 0), ("ademamix", 3)]
)
def test_an_optimizer_keeps_as_many_numbers_a_weight_as_its_rule_has(
    optim: str, states: int, tiny_model: Path, examples: Path
) -> None:
    profile = profile_of(request(tiny_model, examples, optim=optim))

    assert parts(profile)["optimizer"] == 4 * states * profile.shapes.adapter


def test_a_smaller_batch_of_kto_still_has_rows_to_compare(tiny_model: Path, unpaired: Path) -> None:
    asked = request_of(recipe(KTO), tiny_model, unpaired, lora=SFT["lora"])
    batches = [change["per_device_train_batch_size"] for change in _smaller(profile_of(asked))]

    assert batches == [2]


def test_the_memory_of_activations_follows_batch_length_and_checkpointing(
    tiny_model: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        memory, "processor", lambda: SimpleNamespace(threads=1)
    )  # two rows are padded
    profile = profile_of(request(tiny_model, examples))

    def activations(**change: object) -> int:
        return parts(changed(profile, change))["activations"]

    full = activations()
    assert activations(per_device_train_batch_size=2) == pytest.approx(full / 2, rel=0.1)
    assert activations(gradient_checkpointing=True) < full
    assert activations(max_length=profile.length // 2) < 0.6 * full


def test_parts_follow_the_recipe(tiny_model: Path, examples: Path, preferences: Path) -> None:
    profile = profile_of(request(tiny_model, examples))
    sizes, shapes = parts(profile), profile.shapes

    compute = 2 if profile.half else 4
    assert sizes["weights"] == round(shapes.packed / 2 + shapes.plain * compute)
    # A byte for 64 weights, and a float32 for 256 of those.
    assert sizes["quantization constants"] == round(shapes.packed / 64 * (1 + 4 / 256))
    assert sizes["optimizer"] == 8 * shapes.adapter
    assert parts(changed(profile, {"optim": "adamw_8bit"}))["optimizer"] < 2.1 * shapes.adapter
    assert sizes["reference model"] == sizes["rollouts"] == 0

    pairs = request_of(recipe(DPO), tiny_model, preferences, lora=SFT["lora"])
    dpo = profile_of(pairs)
    assert dpo.sequences == 2 * profile.sequences
    assert parts(dpo)["reference model"] == sizes["adapters"]


def test_a_batch_is_padded_to_the_longest_of_its_draws_on_average() -> None:
    lengths = Lengths(2, (1, 3), (0, 0))

    assert lengths.usual(1) == lengths.mean == 2
    assert lengths.usual(2) == 2.5  # (1, 1) one time in four, else 3
    assert lengths.usual(1000) == pytest.approx(lengths.longest)


def test_rows_that_threads_lay_end_to_end_are_counted_without_padding(
    tiny_model: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "processor", lambda: SimpleNamespace(threads=2))
    profile = profile_of(request(tiny_model, examples))
    lengths = Lengths(5, (10, 12, 20, 26, 34), (1, 1, 1, 1, 1), shared=6)
    here = replace(profile, lengths=lengths)

    # 12, 20, 26 and 34 tokens, two rows a thread: of the second one the first six are spared.
    assert (here.sequences, here.threads, here.length) == (4, 2, (12 + 20 + 26 + 34 - 2 * 6) / 4)
    assert here.usual_length == 18  # 20.4 on average, three spared
    cut = changed(here, {"max_length": 5})
    assert (cut.lengths.shared, cut.length) == (4, 3)
    for whole in (replace(here, gpu=True), changed(here, {"gradient_checkpointing": True})):
        assert (whole.threads, whole.length) == (1, 34)


def test_what_all_rows_begin_with_is_counted(tiny_model: Path, examples: Path) -> None:
    profile = profile_of(request(tiny_model, examples))
    tokenizer = load_tokenizer(tiny_model)

    every = [
        tokenizer.apply_chat_template(row["prompt"], return_dict=True)["input_ids"]
        for row in read_examples(examples)
    ]
    same = [len(set(column)) == 1 for column in zip(*every, strict=False)]
    assert 0 < profile.lengths.shared == [*same, False].index(False)


def test_rollouts_hold_cache_scores_and_on_a_processor_the_open_weights(
    tiny_model: Path, examples: Path
) -> None:
    grpo = recipe(GRPO).model_copy(
        update={"lora": SFT["lora"], "quantization": SFT["quantization"]}
    )
    asked = request_of(grpo, tiny_model, examples)
    here, there = profile_of(asked), profile_of(replace(asked, gpu_memory=2**34))

    bytes_each = 2 if here.half else 4
    held = parts(here)["rollouts"] - bytes_each * here.shapes.packed
    together = here.arguments.generation_batch_size
    cache = together * here.length * here.shapes.layers * here.shapes.kv_width
    scores = 4 * 4 * together * here.shapes.vocabulary
    assert held == cache * bytes_each + scores
    assert parts(there)["rollouts"] == cache * 2 + scores


def test_a_device_that_is_too_small_is_told_with_a_change_that_fits(
    tiny_model: Path, examples: Path
) -> None:
    roomy = make_plan(request(tiny_model, examples, gpu_memory=16 * 2**30), timed=False)
    assert roomy.fits and roomy.change is None and roomy.seconds is None
    assert fit_line(roomy) == "fits"
    assert roomy.peak_mib == pytest.approx(sum(roomy.parts_mib.values()), abs=1)
    assert roomy.parts_mib["CUDA context"] == 600

    least = int((roomy.peak_mib - 0.4 * roomy.parts_mib["activations"]) * 2**20)
    tight = make_plan(request(tiny_model, examples, gpu_memory=least), timed=False)
    assert not tight.fits
    assert tight.change == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    assert fit_line(tight).endswith(
        "trainer: {per_device_train_batch_size: 2, gradient_accumulation_steps: 2}"
    )
    smaller = {**tight.change}
    mended = make_plan(request(tiny_model, examples, gpu_memory=least, **smaller), timed=False)
    assert mended.fits

    hopeless = make_plan(request(tiny_model, examples, gpu_memory=2**20), timed=False)
    assert not hopeless.fits and hopeless.change is None
    assert "no change" in fit_line(hopeless)


def test_no_change_is_named_where_the_model_does_not_even_load(
    tiny_model: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A processor's memory is what it is; the mapped file of a large model would fill it.
    monkeypatch.setattr("training.plan.plan.loading", lambda profile: 2**50)

    plan = make_plan(request(tiny_model, examples), timed=False)

    assert not plan.fits and plan.change is None
    assert "no change" in fit_line(plan)


def test_a_plan_is_shown_as_a_table_and_read_back_from_json(
    tiny_model: Path, examples: Path
) -> None:
    from rich.console import Console

    plan = make_plan(request(tiny_model, examples))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.step_seconds and plan.seconds == pytest.approx(
        12 * plan.step_seconds,
        abs=12 * 0.0005 + 0.05,  # as they are rounded
    )
    assert plan.parts_mib["libraries"] > 100

    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(plan))
    shown = captured.get()
    for name in ("weights", "quantization constants", "activations", "peak memory", "steps"):
        assert name in shown


def test_the_prediction_stands_beside_the_measured_peak() -> None:
    assert against(1100, 1000) == "peak memory: planned 1,100 MiB, measured 1,000 MiB (+10%)"


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
