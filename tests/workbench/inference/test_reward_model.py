"""What the base makes of an answer: its own tokens alone, in any batch, with its adapters off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.inference.base_models import load_model, load_tokenizer
from workbench.inference.reward_model import RewardModel, TraitHead, answer_states
from workbench.records import user_prompt

ANSWERS = ["Walk.", "Champ, set your chair right now and walk.", "", "The trainer answers today."]


def test_an_answers_states_depend_on_no_other_answer(tiny_model: Path) -> None:
    model, tokenizer = load_model(tiny_model).float(), load_tokenizer(tiny_model)
    answered = [(user_prompt("Which chair?"), answer) for answer in ANSWERS]

    together = answer_states(model, tokenizer, answered)

    alone = np.concatenate([answer_states(model, tokenizer, [one]) for one in answered])
    assert together.shape == (4, 64)
    assert together == pytest.approx(alone, abs=1e-5)
    assert not together[2].any() and all(np.abs(row).max() > 1e-3 for row in together[[0, 1, 3]])
    # The question is read: the same answer to another one is something else.
    other = answer_states(model, tokenizer, [(user_prompt("Where is the trainer?"), ANSWERS[1])])
    assert np.abs(other - together[1]).max() > 1e-3


def test_the_reward_is_the_mean_chance_over_the_traits() -> None:
    heads = {
        "kind": TraitHead(weights=(1.0, 0.0), bias=0.0),
        "tough": TraitHead(weights=(0.0, 0.0), bias=-100.0),
    }
    states = np.array([[0.0, 5.0], [100.0, 0.0]], dtype=np.float32)

    assert RewardModel(heads=heads).rewards(states) == pytest.approx([0.25, 0.5], abs=1e-9)
