"""What a number of prompts can show: the least difference found, and the prompts that one needs."""

from __future__ import annotations

POWER = 0.8
_MOST = 10_000_000


def power_of(effect: float, sd: float, n: int, *, level: float = 0.95) -> float:
    """Return the chance that a true mean difference is told from 0 with ``n`` pairs.

    That of the paired t-test, which the bootstrap interval of a mean matches closely: noncentral t
    with n - 1 degrees of freedom and noncentrality ``effect * sqrt(n) / sd`` (Cohen 1988,
    Statistical Power Analysis, chapter 2).

    Args:
        effect: True mean of the differences, in the scores' own unit.
        sd: Standard deviation of the differences, above 0.
        n: Pairs, at least 2.
        level: Confidence level of the interval that must exclude 0.
    """
    from scipy.stats import nct, t

    critical = t.ppf((1 + level) / 2, n - 1)
    shift = abs(effect) * n**0.5 / sd
    return float(nct.sf(critical, n - 1, shift))


def detectable(
    sd: float | None, n: int, *, power: float = POWER, level: float = 0.95
) -> float | None:
    """Return the least true difference found with ``power``; None without a spread to go by."""
    from scipy.optimize import brentq

    if not sd or n < 2:
        return None
    high = sd
    while power_of(high, sd, n, level=level) < power:
        high *= 2
    return float(brentq(lambda effect: power_of(effect, sd, n, level=level) - power, 0, high))


def needed(effect: float, sd: float, *, power: float = POWER, level: float = 0.95) -> int:
    """Return the least number of pairs that find ``effect`` with ``power``."""
    low, high = 1, 2
    while power_of(effect, sd, high, level=level) < power and high < _MOST:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(effect, sd, middle, level=level) < power:
            low = middle
        else:
            high = middle
    return high
