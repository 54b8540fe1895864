"""The exact sign test, and the correction for many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sign_test(wins: int, losses: int) -> float | None:
    """Return the two-sided p of the exact sign test; None where there are only ties.

    Ties say nothing of a direction and are left out (Conover 1999, Practical Nonparametric
    Statistics, section 3.4). The null is a fair coin, so both tails weigh the same.
    """
    from scipy.stats import binom

    if not wins + losses:
        return None
    return float(min(1.0, 2 * binom.cdf(min(wins, losses), wins + losses, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, so that p < α keeps the family's error at α.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure": the k-th smallest of m is
    multiplied by m - k + 1, and none may be smaller than one before it. It needs no independence.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]
