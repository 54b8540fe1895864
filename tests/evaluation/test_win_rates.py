from __future__ import annotations

import numpy as np
import pytest

from evaluation.pairwise import PairScore, length_controlled, win_rate
from tests.present import present


def pair(number: int, value: float | None, longer: int = 0, unscored: str = "") -> PairScore:
    return PairScore(
        arm="sft",
        against="base",
        prompt_id=f"ex-{number}",
        responses=(f"rs-{number}a", f"rs-{number}b"),
        value=value,
        unscored=unscored,
        consistent=None if value is None else value != 0.5,
        longer=longer,
    )


def test_the_raw_rate_counts_ties_half_and_leaves_failures_out() -> None:
    pairs = [pair(0, 1.0), pair(1, 1.0), pair(2, 0.5), pair(3, 0.0), pair(4, None, 0, "timeout")]
    rate = win_rate(pairs)
    assert rate.raw == 0.625
    assert (rate.scored, rate.unscored, rate.reasons) == (4, 1, {"timeout": 1})
    assert rate.consistent == 0.75
    assert rate.low is not None and rate.high is not None
    assert rate.low < 0.625 < rate.high


def test_a_win_rate_that_length_explains_falls_to_even_at_equal_length() -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(200, 200, 400)
    # Who is longer wins: nothing else counts.
    wins = rng.random(400) < 1 / (1 + np.exp(-3 * np.tanh(longer / longer.std())))
    values = wins.astype(np.float64)
    assert values.mean() > 0.75
    assert length_controlled(values, longer) == pytest.approx(0.5, abs=0.08)


def test_a_win_rate_that_length_does_not_explain_stays() -> None:
    rng = np.random.default_rng(1)
    longer = rng.normal(200, 200, 400)
    values = (rng.random(400) < 0.75).astype(np.float64)
    assert length_controlled(values, longer) == pytest.approx(values.mean(), abs=0.06)


def test_always_winning_and_equal_lengths_leave_the_raw_rate() -> None:
    assert length_controlled(np.ones(5), np.arange(5.0)) == 1.0
    assert length_controlled(np.array([1.0, 0.0, 1.0, 1.0]), np.full(4, 30.0)) == 0.75


def test_no_scored_pair_gives_no_rate() -> None:
    rate = win_rate([pair(0, None, 5, "judge_timeout")])
    assert (rate.raw, rate.length_controlled, rate.low) == (None, None, None)
    assert rate.reasons == {"judge_timeout": 1}


def test_a_clean_sweep_is_not_called_certain() -> None:
    rate = win_rate([pair(n, 1.0, longer=n) for n in range(12)])
    assert (rate.raw, rate.high) == (1.0, 1.0)
    # Wilson: 12 of 12 leave room for a true rate of n / (n + z^2).
    assert rate.low == rate.length_controlled_low == pytest.approx(12 / (12 + 1.96**2), abs=1e-3)
    lost = win_rate([pair(n, 0.0) for n in range(12)])
    assert lost.low == 0.0
    assert lost.high == pytest.approx(1 - present(rate.low))
    tied = win_rate([pair(n, 0.5) for n in range(12)])
    assert (tied.raw, tied.low, tied.high) == (0.5, None, None)
