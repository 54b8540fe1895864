from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from training.data import draw_replay, load_processor, prompt_completion, read_images
from training.methods import read_rows
from training.plan.plan import EstimateRequest, make_plan, profile_of
from training.plan.trace import step_peak
from training.recipe import load_recipe, recipe_path
from training.run import Recipe
from training.trainer import train
from workbench.errors import UserError, UserErrors
from workbench.inference.base_models import load_tokenizer
from workbench.inference.engines.chats import chat_ids
from workbench.records import Example, user_prompt
from workbench.store import file_hash, write_records

from .conftest import SFT, TRAINER, curve, run_of

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def seeing(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaVA: the tiny tokenizer, a vision part of one layer, images of 28 x 28."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    side = {"height": 28, "width": 28}
    pixels = transformers.CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False)
    processor = transformers.LlavaProcessor(
        image_processor=pixels,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    text = transformers.LlamaConfig.from_pretrained(tiny_model, vocab_size=len(tokenizer))
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image_token
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-llava"
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number in range(4):
        Image.new("RGB", (40, 30), (60 * number, 0, 0)).save(folder / f"{number}.png")
        prompt = user_prompt("what is this chair")
        rows.append(Example(prompt=prompt, answer=f"chair {number}", images=(f"{number}.png",)))
    write_records(folder / "train.jsonl", rows)
    return folder / "train.jsonl"


def test_a_model_that_reads_images_learns_in_its_language_part_alone(
    seeing: Path, pictures: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open

    recipe = load_recipe(recipe_path("sft-vision"))
    steps = {**TRAINER, "max_steps": 2, "save_steps": 2, "max_length": None}
    short = recipe.model_copy(
        update={"trainer": {**steps, "per_device_train_batch_size": 2}, "quantization": None}
    )

    summary = train(run_of(short, seeing, pictures, tmp_path))

    assert (summary.rows, summary.steps) == (4, 2)
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        keys = list(file.keys())
    assert keys and all("language_model" in key for key in keys)


def test_a_plan_counts_the_places_and_the_memory_of_images(seeing: Path, pictures: Path) -> None:
    recipe = load_recipe(recipe_path("sft-vision"))
    request = EstimateRequest(
        run_of(recipe, seeing, pictures, pictures.parent), read_rows(recipe, pictures)
    )
    profile = profile_of(request)

    tokenizer = load_tokenizer(seeing)
    row = prompt_completion(Example(prompt=user_prompt("what is this chair"), answer="chair 1"))
    asked = len(chat_ids(tokenizer, row["prompt"], ask=True))
    text = len(chat_ids(tokenizer, row["prompt"] + row["completion"], ask=False))
    # Images of 28 x 28 in patches of 14 x 14 take four places each.
    assert profile.lengths.whole == (text + 4,) * 4
    assert profile.lengths.answer == (text - asked,) * 4
    assert profile.lengths.pixels == (1, 3, 28, 28)
    bytes_of = partial(
        step_peak,
        profile.config,
        profile.adapter,
        rows=2,
        length=64,
        half=True,
        checkpointing=False,
    )
    # 2 images x 5 patches (one stands for the whole) x 32 numbers are the least that is held.
    assert bytes_of(pixels=profile.lengths.pixels) - bytes_of() > 2 * 5 * 32 * 2
    plan = make_plan(request)
    assert plan.step_seconds and plan.fits


def test_rows_without_their_image_are_one_line(pictures: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.jsonl"
    write_records(plain, [Example(prompt=user_prompt("walk"), answer="walk")])
    lost = tmp_path / "lost.jsonl"
    write_records(lost, [Example(prompt=user_prompt("walk"), answer="walk", images=("x.png",))])

    assert len(list(read_images(pictures))) == 4
    with pytest.raises(UserError, match=r"plain.jsonl:1: has no images"):
        list(read_images(plain))
    with pytest.raises(UserError, match=r"lost.jsonl:1: names x.png, which is not there"):
        list(read_images(lost))


def test_a_base_that_reads_no_images_is_one_line(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="the base model reads no images"):
        load_processor(tiny_model)


ROWS = [Example(prompt=user_prompt(f"Question {n}?"), answer="Up, champ.") for n in range(20)]
KNOWN = {row.id for row in ROWS[:12]}


def test_all_new_rows_and_a_share_of_the_known_ones_in_the_order_of_the_file() -> None:
    drawn = draw_replay(ROWS, KNOWN, 0.25, seed=0)
    assert (drawn.new, drawn.replayed, drawn.earlier) == (8, 3, 12)
    assert [row for row in ROWS if row in drawn.rows] == drawn.rows
    assert set(ROWS[12:]) <= set(drawn.rows)


def test_the_draw_hangs_on_the_seed_and_not_on_the_order_of_rows() -> None:
    again = draw_replay(ROWS[::-1], KNOWN, 0.25, seed=0)
    assert {row.id for row in again.rows} == {
        row.id for row in draw_replay(ROWS, KNOWN, 0.25, 0).rows
    }
    others = {
        frozenset(row.id for row in draw_replay(ROWS, KNOWN, 0.25, seed).rows) for seed in range(5)
    }
    assert len(others) > 1


def test_a_row_that_the_round_has_no_more_is_not_replayed() -> None:
    drawn = draw_replay(ROWS[6:], KNOWN, 1.0, seed=0)
    assert (drawn.earlier, drawn.replayed, len(drawn.rows)) == (6, 6, 14)


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_no_share_replays_none_and_any_share_at_least_one(share: float) -> None:
    assert draw_replay(ROWS, KNOWN, share, seed=0).replayed == {0.0: 0, 0.01: 1, 1.0: 12}[share]


def test_a_share_is_not_rounded_up_by_floating_point() -> None:
    rows = [Example(prompt=user_prompt(f"Old {n}?"), answer="Up, champ.") for n in range(100)]
    assert draw_replay(rows, {row.id for row in rows}, 0.07, seed=0).replayed == 7


@pytest.mark.parametrize(
    ("rounds", "also", "said"),
    [
        ("{start: lst}", "", "rounds.start is 'lst', which is not known"),
        (
            "{start: last, replay: 1.5}",
            "",
            "rounds.replay is 1.5, but should be less than or",
        ),
        ("{replay: 0.5}", "lora: {r: 8}", "rounds.replay is for start: last"),
        ("{start: last}", "lora: {r: 8}", "lora is for a new adapter"),
        ("{start: last}", "osf: {effective_rank: 0.5}", "osf takes its base apart anew"),
        ("{start: base}", "", "lora is missing"),
    ],
)
def test_a_recipe_that_contradicts_itself_says_so(
    tmp_path: Path, rounds: str, also: str, said: str
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"method: sft\ntrainer: {{max_steps: 2}}\nrounds: {rounds}\n{also}\n")
    with pytest.raises(UserErrors) as told:
        load_recipe(file)
    assert any(said in error.line() for error in told.value.errors), told.value.errors


KINDS: dict[str, dict[str, Any]] = {
    "lora": SFT,
    "osf": {"method": "sft", "osf": {"effective_rank": 0.5, "target_modules": "all-linear"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_where_the_adapter_of_the_round_before_stopped(
    kind: str, tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    steps = {**TRAINER, "max_steps": 4, "learning_rate": 0.01}
    first = Recipe.model_validate({**KINDS[kind], "trainer": steps})
    train(run_of(first, tiny_model, examples, tmp_path / "one"))
    adapter = tmp_path / "one" / "adapter"
    before = file_hash(adapter)
    goes_on = {"method": "sft", "rounds": {"start": "last"}, "trainer": steps}
    if first.quantization:
        goes_on["quantization"] = first.quantization
    second = Recipe.model_validate(goes_on)

    train(run_of(second, tiny_model, examples, tmp_path / "two", adapter=adapter))

    losses = [[e["loss"] for e in curve(tmp_path / n) if "loss" in e] for n in ("one", "two")]
    assert losses[1][0] < losses[0][0]  # from where the first stopped, not from the base
    assert losses[1][-1] < losses[1][0]
    assert file_hash(adapter) == before != file_hash(tmp_path / "two" / "adapter")


def test_an_adapter_of_another_base_or_none_is_one_line(
    tiny_model: Path, examples: Path, sft_adapter: Path, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({"method": "sft", "rounds": {"start": "last"}})
    run = run_of(recipe, tiny_model, examples, tmp_path / "out", adapter=sft_adapter)
    with pytest.raises(UserError, match="was trained on tiny-llama, not on other"):
        train(run.model_copy(update={"base_name": "other"}))
    with pytest.raises(UserError, match="no adapter there"):
        train(run.model_copy(update={"adapter": tmp_path / "none"}))
