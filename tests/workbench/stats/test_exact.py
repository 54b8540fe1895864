import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from workbench.stats.bootstrap import mean_intervals
from workbench.stats.significance import holm, sign_test


@pytest.mark.parametrize(("wins", "losses"), [(0, 5), (3, 3), (9, 1), (20, 11), (1, 0)])
def test_the_sign_test_is_the_exact_binomial_test(wins, losses):
    assert sign_test(wins, losses) == pytest.approx(binomtest(wins, wins + losses).pvalue)
    assert sign_test(wins, losses) == sign_test(losses, wins)


def test_ties_alone_are_no_test():
    assert sign_test(0, 0) is None


def test_holm_multiplies_the_smallest_by_their_number_and_never_turns_their_order():
    # The worked example of Holm's step-down: 0.005 × 4, 0.01 × 3, 0.03 × 2, and 0.04 kept up to it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_intervals_are_those_of_scipy_but_for_the_widening_of_small_samples():
    """For 400 values Student's t is near the normal: both must agree."""
    sample = np.random.default_rng(3).exponential(1.0, 400)
    (found,) = mean_intervals([sample], 0)
    theirs = bootstrap((sample,), np.mean, n_resamples=10_000, method="BCa", rng=0)
    assert found.method == "bca"
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


def test_an_interval_depends_on_nothing_but_its_own_sample():
    draw = np.random.default_rng(4)
    samples = [draw.normal(size=n) for n in (30, 12, 30, 0, 1)]
    together = mean_intervals(samples, 7)
    assert [mean_intervals([sample], 7)[0] for sample in samples] == together
    assert [one.method for one in together[3:]] == ["none", "none"]
