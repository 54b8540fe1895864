from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import pytest
from scipy.stats import permutation_test

from workbench.stats.bootstrap import Interval, mean_intervals
from workbench.stats.significance import (
    holm,
    holm_within,
    share_interval,
    sign_flip_test,
    sign_test,
    two_samples,
    yes_no_interval,
)


@pytest.mark.parametrize(("wins", "losses"), [(0, 5), (3, 3), (9, 1), (20, 11), (1, 0)])
def test_the_sign_test_counts_both_tails_of_a_fair_coin(wins: int, losses: int) -> None:
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert sign_test(wins, losses) == pytest.approx(min(1.0, 2 * tail))
    assert sign_test(wins, losses) == pytest.approx(sign_test(losses, wins))


def test_ties_alone_are_no_test() -> None:
    assert sign_test(0, 0) is None


@pytest.mark.parametrize(("n", "within"), [(9, 1e-12), (60, 0.03)])
def test_the_sign_flip_test_is_scipys(n: int, within: float) -> None:
    """Exact up to 13 differences; beyond, both draw 10 000 flips of their own."""
    draw = np.random.default_rng(8)
    samples = [draw.normal(shift, 1.0, n) for shift in (0.0, 0.3, 0.6, -0.2)]
    for sample, p in zip(samples, sign_flip_test(samples), strict=True):
        theirs = permutation_test(
            (sample,),
            lambda x, axis: x.mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=10_000,
            rng=np.random.default_rng(1),
        )
        assert p == pytest.approx(float(theirs.pvalue), abs=within)


def test_of_differences_of_one_size_the_sign_flip_test_is_the_sign_test() -> None:
    sample = np.array([1.0] * 8 + [-1.0] * 2 + [0.0] * 7)
    scaled = [sample, 0.1 * sample, np.zeros(5), np.array([])]
    p = sign_test(8, 2)
    assert sign_flip_test(scaled) == [pytest.approx(p), pytest.approx(p), None, None]


def test_a_p_of_drawn_flips_is_never_zero() -> None:
    (p,) = sign_flip_test([np.linspace(1, 2, 40)], resamples=999)
    assert p == pytest.approx(1 / 1000)


@pytest.mark.parametrize("n", [12, 24, 60])
def test_the_interval_of_yes_and_no_holds_what_is_too_rare_to_be_seen(n: int) -> None:
    """One arm passes 97 of 100 prompts and the other all: resampling mostly sees no difference."""
    draw = np.random.default_rng(n)
    losses = [int((draw.random(n) < 0.03).sum()) for _ in range(2000)]
    ends = [yes_no_interval(0, lost, n) for lost in losses]
    resampled = mean_intervals(
        [np.repeat([-1.0, 0.0], [lost, n - lost]) for lost in losses[:400]], resamples=500
    )

    def covered(intervals: Sequence[Interval]) -> float:
        return float(np.mean([(i.low or 0.0) <= -0.03 <= (i.high or 0.0) for i in intervals]))

    assert covered(ends) >= 0.95
    if n == 12:
        assert covered(resampled) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(("win", "lose"), [(0.5, 0.1), (0.2, 0.2), (0.85, 0.02)])
def test_the_interval_of_yes_and_no_is_not_too_wide_either(win: float, lose: float) -> None:
    draw = np.random.default_rng(4)
    counts = draw.multinomial(24, [win, lose, 1 - win - lose], 2000)
    ends = [yes_no_interval(int(won), int(lost), 24) for won, lost, _ in counts]
    covered = np.mean([(i.low or 0.0) <= win - lose <= (i.high or 0.0) for i in ends])
    assert 0.93 <= covered <= 0.985


def test_holm_multiplies_the_smallest_by_their_number_and_never_turns_their_order() -> None:
    # The worked example of Holm's step-down: 0.005 × 4, 0.01 × 3, 0.03 × 2, and 0.04 kept up to it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_family_is_corrected_for_its_own_tests_alone() -> None:
    p_values = {"a1": 0.01, "a2": 0.04, "b1": 0.04, "none": None}
    adjusted = holm_within(p_values, lambda test: test[0])
    assert adjusted == pytest.approx({"a1": 0.02, "a2": 0.04, "b1": 0.04})
    assert holm_within({"a": None}) == {}


def test_wilsons_interval_of_ten_wins_in_ten_leaves_room() -> None:
    low, high = share_interval(10, 10)
    # All of n: from n / (n + z²) on.
    assert (low, high) == pytest.approx((10 / (10 + 1.95996**2), 1.0), abs=1e-4)


def test_two_samples_agree_with_known_numbers() -> None:
    low, high, p = two_samples([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    # Welch: difference -3, standard error 0.8165, 4 degrees of freedom, t 2.776.
    assert low == pytest.approx(-5.267, abs=1e-3)
    assert high == pytest.approx(-0.733, abs=1e-3)
    assert p == pytest.approx(0.1)  # 2 of the 20 ways to share six values out
    assert two_samples([1.0], [2.0, 3.0]) == (None, None, None)
