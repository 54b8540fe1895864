"""Going on from an earlier round: which rows are trained on, and what a recipe may say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.recipe import load_recipe
from training.replay import draw
from workbench.errors import UserErrors
from workbench.records import Example, user_prompt

ROWS = [Example(prompt=user_prompt(f"Question {n}?"), answer="Up, champ.") for n in range(20)]
KNOWN = {row.id for row in ROWS[:12]}


def test_all_new_rows_and_a_share_of_the_known_ones_in_the_order_of_the_file() -> None:
    drawn = draw(ROWS, KNOWN, 0.25, seed=0)
    assert (drawn.new, drawn.replayed, drawn.earlier) == (8, 3, 12)
    assert [row for row in ROWS if row in drawn.rows] == drawn.rows
    assert set(ROWS[12:]) <= set(drawn.rows)


def test_the_draw_hangs_on_the_seed_and_not_on_the_order_of_rows() -> None:
    again = draw(ROWS[::-1], KNOWN, 0.25, seed=0)
    assert {row.id for row in again.rows} == {row.id for row in draw(ROWS, KNOWN, 0.25, 0).rows}
    others = {frozenset(row.id for row in draw(ROWS, KNOWN, 0.25, seed).rows) for seed in range(5)}
    assert len(others) > 1


def test_a_row_that_the_round_has_no_more_is_not_replayed() -> None:
    drawn = draw(ROWS[6:], KNOWN, 1.0, seed=0)
    assert (drawn.earlier, drawn.replayed, len(drawn.rows)) == (6, 6, 14)


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_no_share_replays_none_and_any_share_at_least_one(share: float) -> None:
    assert draw(ROWS, KNOWN, share, seed=0).replayed == {0.0: 0, 0.01: 1, 1.0: 12}[share]


@pytest.mark.parametrize(
    ("rounds", "also", "said"),
    [
        ("{start: lst}", "", "rounds.start is 'lst', which is not known"),
        ("{start: last, replay: 1.5}", "", "rounds.replay is 1.5, out of range"),
        ("{replay: 0.5}", "lora: {r: 8}", "rounds.replay is for start: last"),
        ("{start: last}", "lora: {r: 8}", "lora is for a new adapter"),
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
