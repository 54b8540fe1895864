"""Whether more rows still help: a power law through losses at several sizes of the training set.

In: losses of the same rows at three sizes or more. Out: a :class:`LearningCurve` with its advice.
Called by ``rounds.planning``, which holds the curve in its own records.

The form is that of Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically" (arXiv
1712.00409); Viering and Loog 2022, "The Shape of Learning Curves: a Review" (IEEE TPAMI), say where
curves of this kind hold and where they fail. Least squares by ``scipy.optimize.curve_fit``, no
parameter below 0; with :data:`FEWEST_SIZES` sizes the floor is 0, which makes the foretold gain too
large rather than too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from workbench.stats.bootstrap import percentile_interval
from workbench.stats.comparison import FEWEST_PAIRS
from workbench.values import Frozen

if TYPE_CHECKING:
    from workbench.stats.bootstrap import Array

Advice = Literal["more", "stop", "unclear"]
FEWEST_SIZES = 3
"""Sizes below which nothing is fitted; with one more, the floor is fitted as well."""
WORTH = 0.02
"""Least relative fall of the loss, by doubling the rows, that is worth the work."""
RESAMPLES = 400


class LearningCurve(Frozen):
    """A fitted curve and what it foretells."""

    measure: str
    """What falls: ``validation_loss`` in nats a token, ``missed``, 1 less the fidelity, or
    ``balanced_error``, of which 0.5 is chance."""
    sizes: tuple[int, ...]
    """Training rows, rising."""
    means: tuple[float, ...]
    scored: int
    """Rows or prompts that every size was scored on."""
    scale: float
    exponent: float
    floor: float
    doubled: float
    """Foretold mean with twice the rows of the largest size."""
    gain: float
    """By how much it is below the fitted mean of the largest size, as a share of that; 0 to 1."""
    low: float | None
    high: float | None
    advice: Advice
    """``more`` where the whole interval is worth it, ``stop`` where none of it is."""

    def at(self, rows: int) -> float:
        """Return the fitted loss with so many rows."""
        return float(_law(rows, self.scale, self.exponent, self.floor))


def fit_curve(
    sizes: Sequence[int],
    losses: Sequence[Sequence[float]],
    measure: str,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> LearningCurve | None:
    """Fit ``loss(n) = scale * n ** -exponent + floor`` and foretell what doubling gains.

    The interval resamples rows, all sizes of a row together, and fits anew: it covers other rows
    like these, not other seeds of training. None with fewer than :data:`FEWEST_SIZES` sizes.

    ``sizes`` are the training rows of each fit, rising; ``losses`` holds a list a size, one value a
    scored row, in the same order; without ``resamples`` there is no interval and no advice.
    """
    import numpy as np

    if len(sizes) < FEWEST_SIZES:
        return None
    table, n = np.asarray(losses, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    rows = table.shape[1]

    def gains(counts: Array) -> Array:
        return np.array([_gain(n[-1], *_fit(n, means)) for means in counts @ table.T / rows])

    ends = None
    if rows >= FEWEST_PAIRS and resamples:
        ends = percentile_interval(rows, gains, seed=seed, resamples=resamples)
    low, high = ends or (None, None)
    means = table.mean(axis=1)
    scale, exponent, floor = _fit(n, means)
    return LearningCurve(
        measure=measure,
        sizes=tuple(int(size) for size in sizes),
        means=tuple(float(mean) for mean in means),
        scored=rows,
        scale=scale,
        exponent=exponent,
        floor=floor,
        doubled=float(_law(2 * n[-1], scale, exponent, floor)),
        gain=_gain(n[-1], scale, exponent, floor),
        low=low,
        high=high,
        advice=_advice(low, high),
    )


def _law(n: Array | float, scale: float, exponent: float, floor: float) -> Array | float:
    return scale * n**-exponent + floor


def _fit(n: Array, means: Array) -> tuple[float, float, float]:
    """Return scale, exponent and floor; sizes are taken relative to the largest while fitting."""
    import numpy as np
    from scipy.optimize import curve_fit

    if not means.max() > 0:
        return 0.0, 0.0, 0.0  # nothing is missed: the fit would stay where it starts
    free = len(n) > FEWEST_SIZES
    relative = n / n[-1]

    def law(x: Array, scale: float, exponent: float, floor: float = 0.0) -> Array:
        return np.asarray(_law(x, scale, exponent, floor))

    last = max(float(means[-1]), 1e-9)
    start = [last / 2, 0.5, last / 2] if free else [last, 0.5]
    bounds = ([0.0] * len(start), [np.inf, 3.0, np.inf][: len(start)])
    fitted, _ = curve_fit(law, relative, means, p0=start, bounds=bounds, maxfev=5000)
    scale, exponent = float(fitted[0]), float(fitted[1])
    return scale * float(n[-1]) ** exponent, exponent, float(fitted[2]) if free else 0.0


def _gain(largest: float, scale: float, exponent: float, floor: float) -> float:
    now = float(_law(largest, scale, exponent, floor))
    return 0.0 if now <= 0 else 1 - float(_law(2 * largest, scale, exponent, floor)) / now


def _advice(low: float | None, high: float | None) -> Advice:
    if low is None or high is None:
        return "unclear"
    if high < WORTH:
        return "stop"
    return "more" if low > WORTH else "unclear"
