"""Bootstrap intervals of many paired differences at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.stats.model import Difference

LEVEL = 0.95
RESAMPLES = 10_000
_COLUMNS = 128
"""Columns resampled at once: 10 000 resamples of them take 10 MB."""
TIE = 1e-12
"""Two means this near are one: sums of the same numbers in another order differ by less."""
Array = NDArray[np.float64]


class Interval(NamedTuple):
    """An interval of a mean, and how it was found."""

    low: float | None
    high: float | None
    method: Literal["bca", "percentile", "none"]


def intervals(
    samples: Sequence[Array], seed: int = 0, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> list[Interval]:
    """Return the bootstrap interval of each sample's mean.

    Bias-corrected and accelerated (Efron 1987, "Better Bootstrap Confidence Intervals", JASA 82),
    with the normal quantile replaced by ``sqrt(n / (n - 1)) t``: resampling n values of a sample
    makes intervals too narrow by just that (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap", The American Statistician 69, "expanded percentile interval"). Where BCa is not
    defined, as when all values are equal, the percentile interval is given and named so.

    Samples of one length share their resamples, drawn anew from ``seed`` for each length, so an
    interval depends on nothing but its own sample.

    Args:
        samples: One-dimensional arrays, of any lengths.
        seed: Of the resampling.
        level: Confidence level.
        resamples: Number of resamples.
    """
    found: list[Interval] = [Interval(None, None, "none")] * len(samples)
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        by_length[len(sample)].append(place)
    for n, places in by_length.items():
        if n < 2:
            continue
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
        for start in range(0, len(places), _COLUMNS):
            some = places[start : start + _COLUMNS]
            table = np.column_stack([samples[place] for place in some])
            for place, interval in zip(some, _bca(table, weights, level), strict=True):
                found[place] = interval
    return found


def _bca(table: Array, weights: Array, level: float) -> list[Interval]:
    """Return the intervals of the columns of ``table`` (n × k), ``weights`` (resamples × n)."""
    from scipy.special import ndtr, ndtri
    from scipy.stats import t

    n = len(table)
    means = table.mean(axis=0)
    replicates = np.sort(weights @ table, axis=0)
    below = (replicates < means - TIE).mean(axis=0)
    not_above = (replicates <= means + TIE).mean(axis=0)
    with np.errstate(all="ignore"):
        bias = ndtri((below + not_above) / 2)
        # Mean of the others' jackknife values minus each: the values' distances from their mean.
        away = table - means
        acceleration = (away**3).sum(axis=0) / (6 * (away**2).sum(axis=0) ** 1.5)
        wide = np.sqrt(n / (n - 1)) * t.ppf((1 + level) / 2, n - 1)
        ends = []
        for z in (-wide, wide):
            shifted = bias + z
            ends.append(ndtr(bias + shifted / (1 - acceleration * shifted)))
    plain = (ndtr(-wide), ndtr(wide))
    spread = np.ptp(table, axis=0) > TIE
    found = []
    for column in range(table.shape[1]):
        low, high = ends[0][column], ends[1][column]
        usable = bool(spread[column] and 0 < low < high < 1)
        values = np.quantile(replicates[:, column], (low, high) if usable else plain)
        if not spread[column]:
            values = np.full(2, means[column])
        found.append(
            Interval(float(values[0]), float(values[1]), "bca" if usable else "percentile")
        )
    return found


def differences_of(
    samples: Sequence[Array], seed: int = 0, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> list[Difference | None]:
    """Return each sample of paired differences as a :class:`Difference`; None for an empty one."""
    from workbench.stats.exact import sign_test

    found: list[Difference | None] = []
    every = intervals(samples, seed, level=level, resamples=resamples)
    for sample, interval in zip(samples, every, strict=True):
        if not len(sample):
            found.append(None)
            continue
        wins, losses = int((sample > TIE).sum()), int((sample < -TIE).sum())
        found.append(
            Difference(
                pairs=len(sample),
                mean=float(sample.mean()),
                low=interval.low,
                high=interval.high,
                method=interval.method,
                sd=float(sample.std(ddof=1)) if len(sample) > 1 else None,
                wins=wins,
                losses=losses,
                p=sign_test(wins, losses),
            )
        )
    return found


def paired_difference(
    pairs: Sequence[tuple[float, float]],
    seed: int = 0,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Difference | None:
    """Return the mean of arm minus reference with its interval, or None without pairs.

    Prompts are resampled with both of their values kept together; see :func:`intervals`.

    Args:
        pairs: (arm, reference) values, one pair a prompt.
        seed: Of the resampling.
        level: Confidence level.
        resamples: Number of resamples.
    """
    sample = np.array([arm - reference for arm, reference in pairs], dtype=np.float64)
    return differences_of([sample], seed, level=level, resamples=resamples)[0]
