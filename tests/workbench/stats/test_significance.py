from __future__ import annotations

from math import comb

import pytest

from workbench.stats.significance import (
    holm,
    holm_within,
    paired_shares,
    share_interval,
    sign_test,
    two_samples,
)


@pytest.mark.parametrize(("wins", "losses"), [(0, 5), (3, 3), (9, 1), (20, 11), (1, 0)])
def test_the_sign_test_counts_both_tails_of_a_fair_coin(wins: int, losses: int) -> None:
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert sign_test(wins, losses) == pytest.approx(min(1.0, 2 * tail))
    assert sign_test(wins, losses) == pytest.approx(sign_test(losses, wins))


def test_ties_alone_are_no_test() -> None:
    assert sign_test(0, 0) is None


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


def paired(both: int, only: int, lacks: int, neither: int) -> list[tuple[bool, bool]]:
    kinds = [((True, True), both), ((True, False), only), ((False, True), lacks)]
    return [pair for pair, n in [*kinds, ((False, False), neither)] for _ in range(n)]


def test_paired_shares_are_newcombes_own_example() -> None:
    shares = paired_shares(paired(36, 12, 2, 0))
    assert shares.change == pytest.approx(0.2)
    assert (shares.low, shares.high) == pytest.approx((0.0569, 0.3404), abs=1e-4)


@pytest.mark.parametrize("cells", [(24, 0, 0, 0), (0, 0, 0, 24), (12, 0, 0, 12), (3, 5, 5, 11)])
def test_shares_that_do_not_differ_have_an_interval_about_zero(
    cells: tuple[int, int, int, int],
) -> None:
    """Even where nothing happened: that 24 prompts agree does not say that all would."""
    shares = paired_shares(paired(*cells))
    assert shares.change == 0 and shares.low < 0 < shares.high
