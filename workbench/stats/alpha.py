"""Krippendorff's alpha with a bootstrap interval over records."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

Level = Literal["nominal", "ordinal"]
Cell = tuple[Hashable, str, Hashable]
"""Record, reviewer, value."""

CONFIDENCE = 0.95
RESAMPLES = 1000
RATINGS = (1, 2, 3, 4, 5)
FEWEST_DEFINED = 0.9
"""Share of resamples in which alpha must be defined for an interval to be given."""


class Alpha(BaseModel):
    """Krippendorff's alpha of one question: 1 is perfect agreement, 0 that of chance."""

    model_config = ConfigDict(frozen=True)

    value: float | None = None
    low: float | None = None
    high: float | None = None
    records: int = 0
    """Records with at least two reviewers."""
    unscored: str = ""
    """Why there is no value, or no interval; empty when both are given."""

    @property
    def width(self) -> float | None:
        """Width of the interval, or None where there is none."""
        return None if self.low is None or self.high is None else self.high - self.low

    def records_needed(self, width: float) -> int | None:
        """Return how many overlapping records an interval of ``width`` needs.

        The width of a bootstrap interval of a mean-like statistic shrinks with the square root
        of the number of records (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
        """
        if not self.width or width <= 0:
            return None
        return max(self.records, math.ceil(self.records * (self.width / width) ** 2))


def alpha(
    cells: Sequence[Cell],
    level: Level,
    domain: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Alpha:
    """Return Krippendorff's alpha of ``cells`` with a percentile bootstrap interval.

    Records are resampled with replacement, since reviews of one record depend on each other.

    Args:
        cells: Record, reviewer and value of each judgement.
        level: How far apart two values are: any difference alike, or by rank.
        domain: All values in their order; those seen, sorted, where it is left out.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap samples.
    """
    values = list(domain or sorted({value for _, _, value in cells}, key=repr))
    place = {value: column for column, value in enumerate(values)}
    units: dict[Hashable, np.ndarray] = {}
    for record, _, value in cells:
        units.setdefault(record, np.zeros(len(values)))[place[value]] += 1
    shared = [counts for counts in units.values() if counts.sum() > 1]
    if len(shared) < 2:
        return Alpha(records=len(shared), unscored="fewer than two records with two reviewers")
    table = np.array(shared)
    if (table.sum(axis=0) > 0).sum() < 2:
        return Alpha(records=len(shared), unscored="everyone gave the same value")
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(table), size=(resamples, len(table)))
    times = np.array([np.bincount(rows, minlength=len(table)) for rows in draws])
    replicates = resampled(table, times, level)
    defined = replicates[np.isfinite(replicates)]
    value = _alpha(table, level)
    if len(defined) < FEWEST_DEFINED * resamples:
        return Alpha(
            value=value, records=len(table), unscored="too few differing values for an interval"
        )
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(edge) for edge in np.quantile(defined, [tail, 1 - tail]))
    return Alpha(value=value, low=low, high=high, records=len(table))


def _alpha(table: np.ndarray, level: Level) -> float:
    """Return alpha of a records × values table of counts; NaN where only one value is used."""
    import krippendorff

    with warnings.catch_warnings():
        # One value throughout gives 0/0, which is told by the NaN.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(
            krippendorff.alpha(
                value_counts=table,
                value_domain=list(range(table.shape[1])),
                level_of_measurement=level,
            )
        )


def resampled(table: np.ndarray, times: np.ndarray, level: Level) -> np.ndarray:
    """Return alpha of many resamples at once; NaN where a resample uses only one value.

    The library takes one table at a time, which would be seconds for all questions of a round.
    Coincidences add up over records, so each resample is a weighted sum of theirs (Krippendorff,
    Computing Krippendorff's Alpha-Reliability, 2011).

    Args:
        table: Records × values; how often each value was given to each record.
        times: Resamples × records; how often each record was drawn.
        level: How far apart two values are.
    """
    given = table.sum(axis=1)
    pairs = table[:, :, None] * table[:, None, :] - np.apply_along_axis(np.diag, 1, table)
    met = np.tensordot(times, pairs / (given - 1)[:, None, None], axes=1)
    used = met.sum(axis=2)
    apart = 1.0 - np.eye(table.shape[1])
    if level == "ordinal":
        # The ranks between two values: all that lie from one to the other, half of both ends.
        upto = used.cumsum(axis=1) - used / 2
        apart = (upto[:, :, None] - upto[:, None, :]) ** 2
    observed = (met * apart).sum(axis=(1, 2))
    expected = (used[:, :, None] * used[:, None, :] * apart).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = 1 - (used.sum(axis=1) - 1) * observed / expected
    return found
