from __future__ import annotations

from typing import Any

import pytest

from training.callbacks import STOP_AFTER, TrainingHealth
from training.rewards import DISTINCT, HELD_OUT, REWARDED
from workbench.errors import UserError


def say(health: TrainingHealth, entries: list[dict[str, Any]]) -> list[str]:
    return [text for step, entry in enumerate(entries, 1) for text in health.warnings(entry, step)]


def test_a_loss_that_explodes_stops_the_run_and_a_spike_does_not() -> None:
    calm = [{"loss": 2.0}, {"loss": 9.0}, {"loss": 2.1}, {"loss": 9.0}, {"loss": 9.5}]

    assert say(TrainingHealth(), calm) == []
    with pytest.raises(UserError, match=r"explodes: 9.9 at step 6, after 2 at its lowest"):
        say(TrainingHealth(), [*calm, {"loss": 9.9}])


def test_a_loss_below_0_does_not_explode_by_wavering() -> None:
    # The robust loss of DPO falls without end as the margin grows.
    wavering = [{"loss": value} for value in (0.69, -0.6, -0.5, -0.4, -0.5, -0.55)]

    assert say(TrainingHealth(), wavering) == []
    with pytest.raises(UserError, match="explodes"):
        say(TrainingHealth(), [*wavering, *[{"loss": 2.0}] * 3])


def test_the_loss_of_grpo_is_not_looked_at() -> None:
    entries = [{"loss": value, "reward": 0.5} for value in (0.0, 5.0, 6.0, 7.0)]

    assert say(TrainingHealth(), entries) == []


def test_rewards_without_variance_warn_and_then_stop() -> None:
    flat = {"reward": 0.0, "frac_reward_zero_std": 1}

    assert (
        say(TrainingHealth(), [flat, flat, {**flat, "frac_reward_zero_std": 0.9}, flat, flat]) == []
    )
    assert "same reward for 3 steps" in say(TrainingHealth(), [flat] * 3)[0]
    with pytest.raises(UserError, match=f"no variance for {STOP_AFTER} steps"):
        say(TrainingHealth(), [flat] * STOP_AFTER)


def test_an_entry_without_rewards_does_not_break_the_row() -> None:
    flat = {"reward": 0.0, "frac_reward_zero_std": 1}

    assert say(TrainingHealth(), [flat, flat, {"eval_reward": 1.0}, flat])


@pytest.mark.parametrize("sign", [{DISTINCT: 0}, {"completions/mean_length": 0}])
def test_collapsed_completions_stop_the_run(sign: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"collapsed.*beta"):
        say(TrainingHealth(), [{"reward": 0.0, **sign}] * 3)


def test_a_hacked_reward_shows_in_what_is_held_out() -> None:
    def history(rewarded: list[float], held_out: list[float]) -> list[dict[str, Any]]:
        pairs = zip(rewarded, held_out, strict=True)
        return [{REWARDED: up, HELD_OUT: down} for up, down in pairs]

    rising, falling = [0.2, 0.3, 0.6, 0.7, 0.9, 1.0], [0.9, 0.8, 0.6, 0.5, 0.4, 0.3]

    assert "rose by 0.70 while those held out fell by 0.50" in TrainingHealth().hacked(
        history(rising, falling)
    )
    assert TrainingHealth().hacked(history(rising, rising)) == ""
    assert TrainingHealth().hacked(history(rising[:2], falling[:2])) == ""
    assert TrainingHealth().hacked([]) == ""
