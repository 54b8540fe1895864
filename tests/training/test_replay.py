"""Going on from an earlier round: which rows are trained on, and what a recipe may say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import SFT, TRAINER, curve, run_of
from training.data import draw_replay
from training.recipe import load_recipe
from training.run import Recipe
from training.trainer import train
from workbench.errors import UserError, UserErrors
from workbench.records import Example, user_prompt
from workbench.store import file_hash

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
