"""How far two raters agree on an ordered scale, with intervals over the rated rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Array = NDArray[np.float64]
Pairs = Sequence[tuple[float, float]]
"""Two raters' values of one row; several where a row has more than two raters."""
FEWEST_ROWS = 8
"""Rows below which a bootstrap of an agreement says nothing."""
_DEFINED = 0.9
"""Share of resamples in which a measure must be defined for an interval to be given."""


class Measure(BaseModel):
    """One measure of agreement: 1 is full agreement, 0 that of chance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    unscored: str = ""
    """Why there is no value or no interval; empty when both are given."""


def weighted_kappa(tables: Array) -> Array:
    """Return Cohen's kappa with quadratic weights of each table; NaN where chance is certain.

    Cohen 1968, "Weighted kappa", Psychological Bulletin 70. The scale's steps count alike.

    Args:
        tables: Shape (..., k, k), counts by the first rater's value and the second's, k levels in
            their order.
    """
    k = tables.shape[-1]
    place = np.arange(k)
    weights = (place[:, None] - place[None, :]) ** 2 / max(k - 1, 1) ** 2
    total = tables.sum((-2, -1), keepdims=True)
    rows, columns = tables.sum(-1, keepdims=True), tables.sum(-2, keepdims=True)
    with np.errstate(all="ignore"):
        seen = (weights * tables / total).sum((-2, -1))
        by_chance = (weights * rows * columns / total**2).sum((-2, -1))
        kappa: Array = np.where(by_chance > 0, 1 - seen / by_chance, np.nan)
    return kappa


def spearman(tables: Array) -> Array:
    """Return Spearman's rank correlation of each table, ties at their mean rank.

    Args:
        tables: Shape (..., a, b), counts by the first rater's value and the second's.
    """

    def centred(margin: Array) -> Array:
        # Mean rank of a level: those below it, and half of its own; its own mean is (n + 1) / 2.
        ranks: Array = np.cumsum(margin, -1) - margin / 2 - margin.sum(-1, keepdims=True) / 2
        return ranks

    first, second = tables.sum(-1), tables.sum(-2)
    x, y = centred(first), centred(second)
    with np.errstate(all="ignore"):
        covariance = (tables * x[..., :, None] * y[..., None, :]).sum((-2, -1))
        spread = (first * x**2).sum(-1) * (second * y**2).sum(-1)
        found: Array = np.where(spread > 0, covariance / np.sqrt(spread), np.nan)
    return found


def measure(
    rows: Sequence[Pairs],
    statistic: Callable[[Array], Array],
    levels: Sequence[float] | None = None,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Measure:
    """Return a statistic of two raters with its percentile interval, rows resampled as a whole.

    Args:
        rows: The pairs of values of each row.
        statistic: :func:`weighted_kappa` or :func:`spearman`.
        levels: All values of the scale in their order; those seen, sorted, by default.
        seed: Of the resampling.
        level: Confidence level.
        resamples: Number of resamples.
    """
    if len(rows) < FEWEST_ROWS:
        return Measure(rows=len(rows), unscored="too_few_rows")
    scale = list(levels or sorted({value for pairs in rows for pair in pairs for value in pair}))
    k = len(scale)
    counts = np.zeros((len(rows), k * k))
    for row, pairs in zip(counts, rows, strict=True):
        for a, b in pairs:
            # Raters of one row share its weight, so that no row counts twice.
            row[scale.index(a) * k + scale.index(b)] += 1 / len(pairs)
    n = len(rows)
    value = float(statistic(counts.sum(0).reshape(k, k)))
    if not np.isfinite(value):
        return Measure(rows=n, unscored="same_value")
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    replicates = statistic((weights @ counts).reshape(-1, k, k))
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < _DEFINED * resamples:
        return Measure(value=value, rows=n, unscored="too_few_differing")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Measure(value=value, low=float(low), high=float(high), rows=n)
