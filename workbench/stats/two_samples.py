"""The difference of two means over different prompts: an interval and a permutation test."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.stats.intervals import LEVEL, RESAMPLES, TIE


class TwoSamples(NamedTuple):
    """Interval and p of a difference of means; None where a side has fewer than two values."""

    low: float | None
    high: float | None
    p: float | None


def two_samples(
    values: Sequence[float],
    others: Sequence[float],
    seed: int = 0,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> TwoSamples:
    """Return what is known of mean(values) - mean(others), of independent prompts.

    The interval is Welch's (1947, "The generalization of 'Student's' problem when several different
    population variances are involved", Biometrika 34), widened by nothing and assuming no equal
    spread; the p is that of a two-sided permutation test, exact where there are few enough ways to
    share the values out (``scipy.stats.ttest_ind``, ``scipy.stats.permutation_test``).

    Args:
        values: One a prompt.
        others: One a prompt, of other prompts.
        seed: Of the permutations, where they are drawn.
        level: Confidence level of the interval.
        resamples: Most permutations.
    """
    from scipy.stats import permutation_test, ttest_ind

    one, other = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if min(len(one), len(other)) < 2:
        return TwoSamples(None, None, None)
    if max(np.ptp(one), np.ptp(other)) < TIE:
        # No spread on either side: the difference is what it is, and permuting still says how rare.
        low = high = float(one.mean() - other.mean())
    else:
        with warnings.catch_warnings():
            # Where one side has no spread, scipy says that its moments are imprecise: they are 0.
            warnings.simplefilter("ignore", RuntimeWarning)
            interval = ttest_ind(one, other, equal_var=False).confidence_interval(level)
        low, high = float(interval.low), float(interval.high)
    tested = permutation_test(
        (one, other),
        _difference,
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return TwoSamples(low, high, float(tested.pvalue))


def _difference(one: NDArray[np.float64], other: NDArray[np.float64], axis: int) -> object:
    return one.mean(axis=axis) - other.mean(axis=axis)
