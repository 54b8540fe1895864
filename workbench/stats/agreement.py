"""How far raters agree, with an interval over the rated rows.

In: what each rater said of each row. Out: a :class:`RaterAgreement`. Called for the reviewers
among themselves, and for the judge beside them.

scikit-learn's ``cohen_kappa_score`` and ``krippendorff`` take one table at
a time: 0.3 to 1 ms each, so seconds for the 10 000 resamples of one question. The statistics here
take a stack of tables, and the tests hold them against those libraries.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Literal

from workbench.stats.bootstrap import LEVEL, RESAMPLES, percentile_interval
from workbench.stats.significance import share_interval
from workbench.values import Frozen

if TYPE_CHECKING:
    import numpy as np

    from workbench.stats.bootstrap import Array

Level = Literal["nominal", "ordinal"]
Judgement = tuple[Hashable, str, Hashable]
"""Row, rater, value."""
Pairs = Sequence[tuple[float, float]]
"""Two raters' values of one row; several where a row has more than two raters."""
ALPHA_RESAMPLES = 1000
RATINGS = (1, 2, 3, 4, 5)
FEWEST_FAULTS = 4
"""Answers at fault below which nothing is said against a rule."""
RULE_BAR = 0.8
"""Least precision and recall of a rule, by reviewers' own labels."""
FEWEST_ROWS = 8
"""Rows below which a bootstrap of two raters' agreement says nothing."""


class RaterAgreement(Frozen):
    """One measure of agreement: 1 is full agreement, 0 that of chance."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    """Rows with at least two raters."""
    unscored: str = ""
    """Why there is no value or no interval: too_few_rows, same_value, too_few_differing; empty when
    both are there."""

    @property
    def width(self) -> float | None:
        """Width of the interval, or None where there is none."""
        return None if self.low is None or self.high is None else self.high - self.low

    def rows_needed(self, width: float) -> int | None:
        """Return how many rows with two raters an interval of ``width`` needs.

        The width of a bootstrap interval of a mean-like statistic shrinks with the square root
        of the number of rows (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
        """
        if not self.width or width <= 0:
            return None
        return max(self.rows, math.ceil(self.rows * (self.width / width) ** 2))


class ShareEstimate(Frozen):
    """A share of ``n`` with Wilson's interval; without a value where ``n`` is 0."""

    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, count: int, n: int) -> ShareEstimate:
        """Return the share that ``count`` is of ``n``."""
        if not n:
            return cls(n=0)
        low, high = share_interval(count, n)
        return cls(n=n, value=count / n, low=low, high=high)


class RuleAgreement(Frozen):
    """A rule beside the reviewers' own labels of its trait: which answers miss it."""

    kappa: RaterAgreement
    precision: ShareEstimate
    """Of the answers that the rule faults, those that reviewers fault too."""
    recall: ShareEstimate
    """Of the answers that reviewers fault, those that the rule faults too."""

    @property
    def disagrees(self) -> bool:
        """Whether precision or recall, of answers enough to tell, surely lies below the bar."""
        both = (self.precision, self.recall)
        return any(
            one.n >= FEWEST_FAULTS and one.high is not None and one.high < RULE_BAR for one in both
        )


def rule_agreement(
    faults: Sequence[tuple[bool, bool]], *, seed: int = 0, resamples: int = RESAMPLES
) -> RuleAgreement:
    """Return how a rule stands to reviewers, by who faults each answer: the rule, the reviewers."""
    both = sum(rule and people for rule, people in faults)
    pairs = [[(float(rule), float(people))] for rule, people in faults]
    return RuleAgreement(
        kappa=two_raters(pairs, weighted_kappa, (0.0, 1.0), seed=seed, resamples=resamples),
        precision=ShareEstimate.of(both, sum(rule for rule, _ in faults)),
        recall=ShareEstimate.of(both, sum(people for _, people in faults)),
    )


def _with_interval(
    value: float, rows: int, statistic: Callable[[Array], Array], **options: int | float
) -> RaterAgreement:
    """Return a value with its percentile interval, rows resampled as a whole."""
    if not math.isfinite(value):
        return RaterAgreement(rows=rows, unscored="same_value")
    ends = percentile_interval(rows, statistic, **options)  # type: ignore[arg-type]
    if ends is None:
        return RaterAgreement(value=value, rows=rows, unscored="too_few_differing")
    return RaterAgreement(value=value, low=ends[0], high=ends[1], rows=rows)


def alpha(
    judgements: Sequence[Judgement],
    level: Level,
    domain: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = ALPHA_RESAMPLES,
) -> RaterAgreement:
    """Return Krippendorff's alpha with a percentile bootstrap interval.

    Rows are resampled as a whole, since the judgements of one row depend on each other. Rows with
    only one say nothing. ``level`` is how far apart two values are: any difference alike, or by
    rank; ``domain`` all values in their order, by default those seen, sorted.
    """
    import krippendorff
    import numpy as np

    values = list(domain or sorted({value for _, _, value in judgements}, key=repr))
    place = {value: column for column, value in enumerate(values)}
    units: dict[Hashable, Array] = {}
    for row, _, value in judgements:
        units.setdefault(row, np.zeros(len(values)))[place[value]] += 1
    shared = [counts for counts in units.values() if counts.sum() > 1]
    if len(shared) < 2:
        return RaterAgreement(rows=len(shared), unscored="too_few_rows")
    table = np.array(shared)
    if (table.sum(axis=0) > 0).sum() < 2:
        return RaterAgreement(rows=len(table), unscored="same_value")
    value = krippendorff.alpha(
        value_counts=table, value_domain=list(range(len(values))), level_of_measurement=level
    )
    return _with_interval(
        float(value),
        len(table),
        lambda counts: alphas(table, counts, level),
        seed=seed,
        resamples=resamples,
    )


def alphas(table: Array, counts: Array, level: Level) -> Array:
    """Return alpha of every resample; NaN where one uses only one value.

    Coincidences add up over rows, so each resample is a weighted sum of theirs (Krippendorff,
    Computing Krippendorff's Alpha-Reliability, 2011). Values are counted in ``table`` (rows ×
    values), rows drawn in ``counts`` (resamples × rows).
    """
    import numpy as np

    raters = table.sum(axis=1)
    pairs = table[:, :, None] * table[:, None, :] - np.apply_along_axis(np.diag, 1, table)
    met = np.tensordot(counts, pairs / (raters - 1)[:, None, None], axes=1)
    used = met.sum(axis=2)
    apart = 1.0 - np.eye(table.shape[1])
    if level == "ordinal":
        # The ranks between two values: all that lie from one to the other, half of both ends.
        upto = used.cumsum(axis=1) - used / 2
        apart = (upto[:, :, None] - upto[:, None, :]) ** 2
    observed = (met * apart).sum(axis=(1, 2))
    expected = (used[:, :, None] * used[:, None, :] * apart).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Array = 1 - (used.sum(axis=1) - 1) * observed / expected
    return result


def weighted_kappa(tables: Array) -> Array:
    """Return Cohen's kappa with quadratic weights of each table; NaN where chance is certain.

    Cohen 1968, "Weighted kappa", Psychological Bulletin 70. The scale's steps count alike. Tables
    are of shape (..., k, k): counts by the first rater's value and the second's, in order.
    """
    import numpy as np

    k = tables.shape[-1]
    place = np.arange(k)
    weights = (place[:, None] - place[None, :]) ** 2 / max(k - 1, 1) ** 2
    total = tables.sum((-2, -1), keepdims=True)
    rows, columns = tables.sum(-1, keepdims=True), tables.sum(-2, keepdims=True)
    with np.errstate(all="ignore"):
        seen = (weights * tables / total).sum((-2, -1))
        by_chance = (weights * rows * columns / total**2).sum((-2, -1))
        return np.where(by_chance > 0, 1 - seen / by_chance, np.nan)


def two_raters(
    rows: Sequence[Pairs],
    statistic: Callable[[Array], Array],
    levels: Sequence[float] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RaterAgreement:
    """Return a statistic of two raters with its percentile interval.

    ``levels`` are all values of the scale in their order; those seen, sorted, by default.
    """
    import numpy as np

    if len(rows) < FEWEST_ROWS:
        return RaterAgreement(rows=len(rows), unscored="too_few_rows")
    scale = list(levels or sorted({value for pairs in rows for pair in pairs for value in pair}))
    k = len(scale)
    counts: np.ndarray = np.zeros((len(rows), k * k))
    for row, pairs in zip(counts, rows, strict=True):
        for a, b in pairs:
            # Raters of one row share its weight, so that no row counts twice.
            row[scale.index(a) * k + scale.index(b)] += 1 / len(pairs)
    return _with_interval(
        float(statistic(counts.sum(0).reshape(k, k))),
        len(rows),
        lambda drawn: statistic((drawn @ counts).reshape(-1, k, k)),
        seed=seed,
        resamples=resamples,
    )


def gate_power(
    kappa: float,
    bar: float,
    rows: int,
    share: float,
    *,
    seed: int = 0,
    runs: int = 4000,
) -> float:
    """Return how often a rater of true ``kappa`` passes a gate on its interval's lower end.

    Simulated: on a share ``kappa`` of the rows the rater says what the other one says, on the rest
    as it falls, with the same share of yes; which is a kappa of just that size.

    ``bar`` is what the lower end has to reach, ``share`` the share of yes, between 0 and 1.
    """
    import numpy as np
    from scipy.stats import norm

    yes, no = share, 1 - share
    apart = (1 - kappa) * yes * no
    chances = [no * (kappa + (1 - kappa) * no), apart, apart, yes * (kappa + (1 - kappa) * yes)]
    tables = np.random.default_rng(seed).multinomial(rows, chances, size=runs) / rows
    values, errors = _kappa_error(tables.reshape(runs, 2, 2), rows)
    # Comparison with NaN is false: where nothing can be told, nobody passes.
    return float((values - norm.ppf((1 + LEVEL) / 2) * errors >= bar).mean())


def _kappa_error(shares: Array, rows: int) -> tuple[Array, Array]:
    """Return Cohen's kappa of each table of shares with its standard error for large samples.

    Fleiss, Cohen and Everitt 1969, "Large Sample Standard Errors of Kappa and Weighted Kappa",
    Psychological Bulletin 72.
    """
    import numpy as np

    first, second = shares.sum(2), shares.sum(1)
    by_chance = (first * second).sum(1)
    with np.errstate(all="ignore"):
        kappa = (np.trace(shares, axis1=1, axis2=2) - by_chance) / (1 - by_chance)
        free = (1 - kappa)[:, None, None]
        both = second[:, :, None] + first[:, None, :]  # of the cell in row i and column j
        alike = np.eye(shares.shape[1])
        terms = shares * np.where(alike, (1 - both * free) ** 2, (both * free) ** 2)
        spread = terms.sum((1, 2)) - (kappa - by_chance * (1 - kappa)) ** 2
        return kappa, np.sqrt(np.maximum(spread, 0) / rows) / (1 - by_chance)


def rows_for_gate(
    kappa: float, bar: float, share: float, *, power: float = 0.8, most: int = 1000, seed: int = 0
) -> int | None:
    """Return the rows with which :func:`gate_power` reaches ``power``; None above ``most``."""

    def passes(rows: int) -> bool:
        return gate_power(kappa, bar, rows, share, seed=seed) >= power

    if not passes(most):
        return None
    return FEWEST_ROWS + bisect_left(range(FEWEST_ROWS, most), True, key=passes)
