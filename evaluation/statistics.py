"""Means per arm and metric, and paired bootstrap intervals of their differences to a base."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from workbench.errors import UserError
from workbench.records import Score

LEVEL = 0.95
RESAMPLES = 10_000


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Value):
    """An arm minus the base on the prompts that both were scored on."""

    pairs: int
    """Prompts that both arms have a score for."""
    mean: float
    low: float | None
    """Lower end of the interval; None with fewer than two pairs."""
    high: float | None
    method: Literal["bca", "percentile", "none"]

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Cell(_Value):
    """One arm on one metric."""

    arm: str
    metric: str
    scored: int
    unscored: int
    reasons: dict[str, int]
    """Why scores are missing → how many."""
    mean: float | None
    """Mean of the scored ones; None where there are none."""
    difference: Difference | None
    """To the base; None for the base itself, and where no prompt is scored in both."""


class Comparison(_Value):
    """Every arm on every metric, each against the base."""

    base: str
    seed: int
    level: float
    resamples: int
    prompts: int
    """Different prompts that scores were asked for."""
    arms: tuple[str, ...]
    metrics: tuple[str, ...]
    cells: tuple[Cell, ...]

    def cell(self, arm: str, metric: str) -> Cell:
        """Return the cell of an arm and a metric.

        Raises:
            KeyError: There is none.
        """
        for cell in self.cells:
            if (cell.arm, cell.metric) == (arm, metric):
                return cell
        raise KeyError((arm, metric))


def compare(
    scores: Sequence[Score],
    base: str = "base",
    seed: int = 0,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare every arm with ``base``, metric by metric, in the order of first appearance.

    Args:
        scores: Of all arms; one for each arm, prompt and metric.
        base: Name of the arm that the others are compared with.
        seed: Of the resampling; every cell draws from it anew, so cells don't depend on others.
        level: Confidence level of the intervals.
        resamples: Bootstrap resamples of the prompts for each interval.

    Raises:
        UserError: There is no score of ``base``, or a score is given twice.
    """
    table = _tabulate(scores)
    arms = tuple(dict.fromkeys(score.arm for score in scores))
    metrics = tuple(dict.fromkeys(score.metric for score in scores))
    if base not in arms:
        there = ", ".join(arms) or "none"
        raise UserError(
            f"no score of the arm '{base}' to compare with (there are: {there})",
            fix="answer with that arm too",
        )
    cells = []
    for arm in arms:
        for metric in metrics:
            own = table.get((arm, metric), {})
            difference = None
            if arm != base:
                pairs = _pairs(own, table.get((base, metric), {}))
                difference = paired_difference(pairs, seed, level=level, resamples=resamples)
            cells.append(_cell(arm, metric, own, difference))
    return Comparison(
        base=base,
        seed=seed,
        level=level,
        resamples=resamples,
        prompts=len({score.prompt_id for score in scores}),
        arms=arms,
        metrics=metrics,
        cells=tuple(cells),
    )


def _tabulate(scores: Sequence[Score]) -> dict[tuple[str, str], dict[str, Score]]:
    """Return (arm, metric) → prompt → score."""
    table: dict[tuple[str, str], dict[str, Score]] = {}
    for score in scores:
        column = table.setdefault((score.arm, score.metric), {})
        if score.prompt_id in column:
            raise UserError(
                f"'{score.metric}' of arm '{score.arm}' is given twice for {score.prompt_id}",
                fix="evaluate again",
            )
        column[score.prompt_id] = score
    return table


def _pairs(own: dict[str, Score], base: dict[str, Score]) -> list[tuple[float, float]]:
    """Return (arm, base) values of the prompts that both are scored on."""
    both = [(own[prompt].value, base[prompt].value) for prompt in own if prompt in base]
    return [(a, b) for a, b in both if a is not None and b is not None]


def _cell(arm: str, metric: str, own: dict[str, Score], difference: Difference | None) -> Cell:
    import numpy as np

    values = [score.value for score in own.values() if score.value is not None]
    reasons = Counter(score.unscored for score in own.values() if score.value is None)
    return Cell(
        arm=arm,
        metric=metric,
        scored=len(values),
        unscored=reasons.total(),
        reasons=dict(reasons.most_common()),
        mean=float(np.mean(values)) if values else None,
        difference=difference,
    )


def paired_difference(
    pairs: Sequence[tuple[float, float]],
    seed: int = 0,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Difference | None:
    """Return the mean of arm minus base with its bootstrap interval, or None without pairs.

    Prompts are resampled with both of their values kept together. The interval is bias-corrected
    and accelerated (Efron 1987); where that is not defined, as when all differences are equal,
    the percentile interval is given instead and named so.

    Args:
        pairs: (arm, base) values, one pair a prompt.
        seed: Of the resampling.
        level: Confidence level.
        resamples: Number of resamples.
    """
    import numpy as np
    from scipy.stats import bootstrap

    if not pairs:
        return None
    differences = np.array([arm - base for arm, base in pairs])
    mean = float(differences.mean())
    if len(pairs) < 2:
        return Difference(pairs=len(pairs), mean=mean, low=None, high=None, method="none")

    def interval(method: str) -> tuple[float, float]:
        with warnings.catch_warnings():
            # scipy warns where BCa is not defined, and returns NaN: that is asked for below.
            warnings.simplefilter("ignore")
            found = bootstrap(
                (differences,),
                np.mean,
                n_resamples=resamples,
                batch=max(1, 4_000_000 // len(differences)),
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        return float(found.low), float(found.high)

    low, high = interval("BCa")
    if np.isfinite([low, high]).all():
        return Difference(pairs=len(pairs), mean=mean, low=low, high=high, method="bca")
    low, high = interval("percentile")
    return Difference(pairs=len(pairs), mean=mean, low=low, high=high, method="percentile")
