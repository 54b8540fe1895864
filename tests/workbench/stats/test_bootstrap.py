from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from workbench.stats.bootstrap import mean_intervals, percentile_interval, resampled_counts


def test_every_resample_draws_as_many_units_as_there_are() -> None:
    counts = resampled_counts(7, 500, seed=1)
    assert counts.shape == (500, 7)
    assert set(counts.sum(axis=1)) == {7.0}
    assert counts.mean() == 1.0
    assert np.array_equal(counts, resampled_counts(7, 500, seed=1))
    assert not np.array_equal(counts, resampled_counts(7, 500, seed=2))


def test_percentile_intervals_are_those_of_scipy() -> None:
    sample = np.random.default_rng(2).exponential(1.0, 200)
    ends = percentile_interval(200, lambda counts: counts @ sample / 200)
    theirs = bootstrap((sample,), np.mean, n_resamples=10_000, method="percentile", rng=0)
    assert ends == pytest.approx(tuple(theirs.confidence_interval), abs=0.006)


def test_a_statistic_that_is_seldom_defined_has_no_interval() -> None:
    def only_without_the_first(counts: np.ndarray) -> np.ndarray:
        return np.where(counts[:, 0] > 0, np.nan, 1.0)

    assert percentile_interval(10, only_without_the_first) is None
    assert percentile_interval(10, only_without_the_first, least_defined=0.2) == (1.0, 1.0)


def test_intervals_are_those_of_scipy_but_for_the_widening_of_small_samples() -> None:
    """For 400 values Student's t is near the normal: both must agree."""
    sample = np.random.default_rng(3).exponential(1.0, 400)
    (ours,) = mean_intervals([sample], 0)
    theirs = bootstrap((sample,), np.mean, n_resamples=10_000, method="BCa", rng=0)
    assert ours.method == "bca"
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


def test_an_interval_depends_on_nothing_but_its_own_sample() -> None:
    draw = np.random.default_rng(4)
    samples = [draw.normal(size=n) for n in (30, 12, 30, 0, 1)]
    together = mean_intervals(samples, 7)
    for sample, among_others in zip(samples[:3], together, strict=False):
        (alone,) = mean_intervals([sample], 7)
        assert alone[:2] == pytest.approx(among_others[:2], abs=1e-12)
    assert [one.method for one in together[3:]] == ["none", "none"]
