"""Tests of a difference, their correction for number, and what a number of prompts can show.

In: paired differences, numbers of wins and losses, values of two groups of prompts, or a spread.
Out: p-values, intervals of shares and of two means, least differences found and the prompts that
one needs.

The distributions are scipy's; only the sign flips are ours, since ``scipy.stats.permutation_test``
takes one sample at a time: 300 samples of 200 prompts took it 59 s and this 0.4 s. statsmodels
would bring Holm's correction and the power of a t-test; it stays out, since it needs 69 MB and
four further packages, and its ``TTestPower`` gave NaN or too few pairs where an effect is large
(0.6 at a spread of 0.1: 2 pairs, where 3 are needed).
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from workbench.stats.bootstrap import COLUMNS, LEVEL, RESAMPLES, TIE, Interval

if TYPE_CHECKING:
    from workbench.stats.bootstrap import Array

K = TypeVar("K", bound=Hashable)
POWER = 0.8
_MOST = 10_000_000


def sign_test(wins: int, losses: int) -> float | None:
    """Return the two-sided p of the exact sign test; None where there are only ties.

    Ties say nothing of a direction and are left out (Conover 1999, Practical Nonparametric
    Statistics, section 3.4). The null is a fair coin: ``scipy.stats.binomtest``.
    """
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else None


def sign_flip_test(
    samples: Sequence[Array], seed: int = 0, *, resamples: int = RESAMPLES
) -> list[float | None]:
    """Return the two-sided p of each sample's mean, its signs flipped; None where all are ties.

    The null: a difference is as likely in the one direction as in the other, whatever its size
    (Fisher 1935, The Design of Experiments, section 21). It looks at sizes too, so it finds what
    the sign test overlooks; of differences that are all of one size both are the same test. Ties
    stay what they are under any flip and are left out. Up to 13 differences every flip is tried;
    of more, ``resamples`` are drawn and the sample itself counts as one of them (Phipson and Smyth
    2010, "Permutation P-values Should Never Be Zero").
    """
    import numpy as np

    p_values: list[float | None] = [None] * len(samples)
    uneven = [sample[np.abs(sample) > TIE] for sample in samples]
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, sample in enumerate(uneven):
        by_length[len(sample)].append(place)
    for n, places in by_length.items():
        if n == 0:
            continue
        drawn = 2**n > resamples
        bits = (
            np.random.default_rng(seed).integers(0, 2, (resamples, n))
            if drawn
            else np.arange(2**n)[:, None] >> np.arange(n) & 1
        )
        signs = 1.0 - 2.0 * bits
        for start in range(0, len(places), COLUMNS):
            some = places[start : start + COLUMNS]
            table = np.stack([uneven[place] for place in some])
            # Sums of one sample's values in any order may differ by a rounding.
            as_far = np.abs(signs @ table.T) >= np.abs(table.sum(axis=1)) - n * TIE
            for place, count in zip(some, as_far.sum(axis=0), strict=True):
                p_values[place] = float((count + drawn) / (len(signs) + drawn))
    return p_values


def yes_no_interval(wins: int, losses: int, n: int) -> Interval:
    """Return the interval of a mean of ``n`` paired yes/no differences; n is 1 or more.

    Resampling can't show an event that was not seen: of 12 prompts that all passed, it says that
    all others would. This adds one win, one loss and two prompts before the normal interval
    (Bonett and Price 2012, "Adjusted Wald Confidence Interval for a Difference of Binomial
    Proportions Based on Paired Data", Journal of Educational and Behavioral Statistics 37), as
    Wilson's interval does nearly for one share.
    """
    from scipy.stats import norm

    won, lost = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    center = won - lost
    half = float(norm.ppf((1 + LEVEL) / 2)) * ((won + lost - center**2) / (n + 2)) ** 0.5
    return Interval(max(center - half, -1.0), min(center + half, 1.0), "adjusted")


def share_interval(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's interval of a share (1927, "Probable inference", JASA 22); n is 1 or more."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def share_interval_of(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of ``n`` units that are no whole number.

    scipy has it for whole ones alone, and statsmodels is no dependency.
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + LEVEL) / 2))
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return max(center - half, 0.0), min(center + half, 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, so that p < α keeps the family's error at α.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure": the k-th smallest of m is
    multiplied by m - k + 1, and none may be smaller than one before it. It needs no independence.
    """
    import numpy as np

    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def holm_within(
    p_values: Mapping[K, float | None], family: Callable[[K], object] = lambda _: None
) -> dict[K, float]:
    """Return test → its p adjusted within its family of tests; tests without a p are left out.

    ``family`` returns what a test belongs to; all to one family by default.
    """
    families: dict[object, dict[K, float]] = defaultdict(dict)
    for test, p in p_values.items():
        if p is not None:
            families[family(test)][test] = p
    adjusted: dict[K, float] = {}
    for members in families.values():
        adjusted |= zip(members, holm(list(members.values())), strict=True)
    return adjusted


class TwoSamples(NamedTuple):
    """Interval and p of a difference of means; None where a group has fewer than two values."""

    low: float | None
    high: float | None
    p: float | None


def two_samples(
    values: Sequence[float],
    others: Sequence[float],
    seed: int = 0,
    *,
    resamples: int = RESAMPLES,
) -> TwoSamples:
    """Return what is known of mean(values) - mean(others), of independent prompts.

    The interval is Welch's (1947, "The generalization of 'Student's' problem when several different
    population variances are involved", Biometrika 34), widened by nothing and assuming no equal
    spread; the p is that of a two-sided permutation test, exact where there are few enough ways to
    share the values out (``scipy.stats.ttest_ind``, ``scipy.stats.permutation_test``). Both have
    one value a prompt, of different prompts.
    """
    import numpy as np
    from scipy.stats import permutation_test, ttest_ind

    one, other = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if min(len(one), len(other)) < 2:
        return TwoSamples(None, None, None)
    if max(np.ptp(one), np.ptp(other)) < TIE:
        # No spread in either: the difference is what it is, and permuting still says how rare.
        low = high = float(one.mean() - other.mean())
    else:
        with warnings.catch_warnings():
            # Where one has no spread, scipy says that its moments are imprecise: they are 0.
            warnings.simplefilter("ignore", RuntimeWarning)
            interval = ttest_ind(one, other, equal_var=False).confidence_interval(LEVEL)
        low, high = float(interval.low), float(interval.high)
    test = permutation_test(
        (one, other),
        lambda first, second, axis: first.mean(axis=axis) - second.mean(axis=axis),
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return TwoSamples(low, high, float(test.pvalue))


def power_of(effect: float, sd: float, n: int) -> float:
    """Return the chance that a true mean difference is distinguished from 0 with ``n`` pairs.

    That of the paired t-test, which the bootstrap interval of a mean matches closely: noncentral t
    with n - 1 degrees of freedom and noncentrality ``effect * sqrt(n) / sd`` (Cohen 1988,
    Statistical Power Analysis, chapter 2). The standard deviation is above 0, and there are two
    pairs at the least.
    """
    from scipy.stats import nct, t

    critical = t.ppf((1 + LEVEL) / 2, n - 1)
    return float(nct.sf(critical, n - 1, abs(effect) * n**0.5 / sd))


def detectable(sd: float | None, n: int) -> float | None:
    """Return the least true difference found with power :data:`POWER`; None without a spread."""
    from scipy.optimize import brentq

    if not sd or n < 2:
        return None
    high = sd
    while power_of(high, sd, n) < POWER:
        high *= 2
    return float(brentq(lambda effect: power_of(effect, sd, n) - POWER, 0, high))


def needed(effect: float, sd: float) -> int:
    """Return the least number of pairs that find ``effect`` with the power :data:`POWER`."""

    def reaches(n: int) -> bool:
        return power_of(effect, sd, n) >= POWER

    high = 2
    while not reaches(high) and high < _MOST:
        high *= 2
    return high // 2 + bisect_left(range(high // 2, high), True, key=reaches)


def units_for(p: float, target: float, n: int) -> int:
    """Return about how many units would bring an effect's p down to ``target``, if it stays as big.

    The standardised effect grows with the root of the number of units, so that many are needed as
    the squared ratio of the two normal deviates says; and no fewer than with which the sign-flip
    test can reach that at all, whose least p is 2 / 2**n. The p of ``n`` units is two-sided, and
    above ``target``.
    """
    from scipy.stats import norm

    grown = n * float(norm.isf(target / 2) / norm.isf(p / 2)) ** 2
    return max(math.ceil(grown), math.floor(2 - math.log2(target)), n + 1)
