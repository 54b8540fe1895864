"""Win-rates of pairwise comparisons, raw and with the length of the answers taken out.

In: a judge's word on pairs of answers. Out: a :class:`WinRate` of two arms. Called by the pairwise
comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from workbench.stats.bootstrap import TIE, percentile_interval
from workbench.stats.significance import share_interval

if TYPE_CHECKING:
    from workbench.stats.bootstrap import Array

RESAMPLES = 300
_Ends = tuple[float, float] | tuple[None, None]
_NONE = (None, None)


class PairScore(BaseModel):
    """Two arms' answers to one prompt, compared in both orders."""

    model_config = ConfigDict(frozen=True)

    arm: str
    against: str
    prompt_id: str
    responses: tuple[str, str]
    """Ids of the arm's and the other's response."""
    value: float | None
    """1 where the arm's answer is better in both orders, 0 where the other's is."""
    unscored: str
    """Why there is no value."""
    consistent: bool | None
    """Whether the swapped order gave the same winner."""
    longer: int
    """Characters of the arm's answer less those of the other's."""


class WinRate(BaseModel):
    """How often an arm's answer is preferred to another arm's."""

    model_config = ConfigDict(frozen=True)

    arm: str
    against: str
    scored: int
    unscored: int
    reasons: dict[str, int]
    raw: float | None
    """Mean value of the scored pairs, a tie counted half."""
    low: float | None
    high: float | None
    """Percentile bootstrap interval of ``raw`` over prompts, Wilson's where every pair went the
    same way; None with fewer than two pairs, and where all are ties."""
    length_controlled: float | None
    """Win-rate that the fitted model gives two answers of the same length."""
    length_controlled_low: float | None
    length_controlled_high: float | None
    consistent: float | None
    """Share of the pairs in which the swapped order gave the same winner."""
    mean_longer: float | None
    """Characters by which the arm's answers are longer, on average."""


def win_rate(duels: Sequence[PairScore], *, seed: int = 0, resamples: int = RESAMPLES) -> WinRate:
    """Return the win-rate over the duels of one arm against one other.

    Args:
        duels: One a prompt, all of the same two arms; at least one.
        seed: Of the resampling.
        resamples: Bootstrap resamples of the prompts.
    """
    import numpy as np

    scored = [(duel, duel.value) for duel in duels if duel.value is not None]
    reasons = Counter(duel.unscored for duel in duels if duel.value is None)
    values = np.array([value for _, value in scored])
    longer = np.array([float(duel.longer) for duel, _ in scored])
    (low, high), (lc_low, lc_high) = _intervals(values, longer, seed, resamples)
    return WinRate(
        arm=duels[0].arm,
        against=duels[0].against,
        scored=len(scored),
        unscored=reasons.total(),
        reasons=dict(reasons.most_common()),
        raw=float(values.mean()) if scored else None,
        low=low,
        high=high,
        length_controlled=length_controlled(values, longer) if scored else None,
        length_controlled_low=lc_low,
        length_controlled_high=lc_high,
        consistent=sum(bool(d.consistent) for d, _ in scored) / len(scored) if scored else None,
        mean_longer=float(longer.mean()) if scored else None,
    )


def _intervals(values: Array, longer: Array, seed: int, resamples: int) -> tuple[_Ends, _Ends]:
    """Return the intervals of the raw and of the length-controlled rate."""
    import numpy as np

    n = len(values)
    if n < 2:
        return _NONE, _NONE
    if values.min() == values.max():
        # Resampling values that are all alike says nothing of what else could have come.
        alike = share_interval(int(values[0]) * n, n) if values[0] in (0.0, 1.0) else _NONE
        return alike, alike

    def controlled(counts: Array) -> Array:
        return np.array([length_controlled(values, longer, times) for times in counts])

    raw = percentile_interval(n, lambda c: c @ values / n, seed=seed, resamples=resamples)
    return raw or _NONE, percentile_interval(n, controlled, seed=seed, resamples=resamples) or _NONE


def length_controlled(values: Array, longer: Array, counts: Array | None = None) -> float:
    """Return the win-rate at equal length, in the manner of AlpacaEval 2.

    Fitted is ``P(arm preferred) = sigmoid(a + b · tanh(longer / sd(longer)))`` with a small ridge
    on ``b``; at equal length the second term is zero and ``sigmoid(a)`` is returned (Dubois et al.
    2024, "Length-Controlled AlpacaEval", arXiv:2404.04475). Their third term, the difficulty of a
    prompt, is fitted over many models and left out here. Where every pair went the same way there
    is nothing to fit, and that way is returned.

    Args:
        values: Preferences from 0 to 1, shape (pairs,).
        longer: Characters by which the arm's answer is longer, shape (pairs,).
        counts: How often each pair counts, shape (pairs,); once by default.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    counts = np.ones(len(values)) if counts is None else counts
    mean = float(np.average(values, weights=counts))
    variance = np.average((longer - np.average(longer, weights=counts)) ** 2, weights=counts)
    if min(mean, 1 - mean) < TIE or variance < TIE:
        return mean
    term = np.tanh(longer / variance**0.5)[:, None]
    # A preference of p is p of a win and 1 - p of a loss; the intercept bears no penalty.
    model = LogisticRegression(C=10.0).fit(
        np.vstack([term, term]),
        np.repeat([1, 0], len(values)),
        sample_weight=np.concatenate([values * counts, (1 - values) * counts]),
    )
    return float(1 / (1 + np.exp(-model.intercept_[0])))
