"""What else could have come of it: an arm's difference over training seeds and topics.

In: differences to the base by training seed and prompt, and the topic of each prompt. Out: a mean
whose interval holds what another seed and other topics would change. The stage of several seeds
writes them as a :class:`SeedsReport`; the report puts them in the place of one training's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.persona import FIDELITY
from workbench.records import Response, Score
from workbench.stats.bootstrap import LEVEL, TIE
from workbench.stats.comparison import FEWEST_PAIRS, Comparison, MetricCell
from workbench.stats.table import Column, Key, tabulate
from workbench.values import Frozen

if TYPE_CHECKING:
    from workbench.stats.bootstrap import Array


class CrossedMean(Frozen):
    """A mean over seeds and prompts, and how sure it is where both could have been others."""

    mean: float
    low: float | None
    """Lower end of the interval; None with a single topic, or where nothing varies."""
    high: float | None
    p: float | None = None
    prompts: int
    topics: int
    seeds: dict[int, float]
    """Training seed → mean over the prompts."""

    @property
    def sd(self) -> float | None:
        """Standard deviation between the seeds; None with only one."""
        import numpy as np

        return float(np.std(list(self.seeds.values()), ddof=1)) if len(self.seeds) > 1 else None


class SeedsReport(Frozen):
    """One arm trained with several seeds: ``seeds.json``."""

    arm: str
    seeds: tuple[int, ...]
    measures: dict[str, CrossedMean]
    """Metric → difference to the base on the held-out prompts."""
    values: dict[str, float]
    """Metric → the arm's own mean over seeds and prompts."""


def crossed_mean(
    values: Mapping[int, Mapping[str, float]],
    topics: Mapping[str, str],
    *,
    level: float = LEVEL,
) -> CrossedMean | None:
    """Return the mean of differences by seed and prompt, with an interval over seeds and topics.

    Seeds and topics are crossed random effects. The variance of the mean is that between the seeds'
    means over their number, plus the sum over topics of their prompts' deviations (Cameron, Gelbach
    and Miller 2011, "Robust Inference With Multiway Clustering", JBES 29; their term of the
    intersection is left in, so that the interval errs on the wide side). Degrees of freedom are
    Satterthwaite's (1946, "An Approximate Distribution of Estimates of Variance Components"). A
    bootstrap of three seeds and six topics held the truth in 85 to 90 % of simulations, this in 94
    to 98 %. ``values`` are training seed → prompt → difference; only prompts of every seed count. A
    prompt without a topic is a topic of its own.

    Returns:
        None without a prompt that every seed has.
    """
    import numpy as np
    from scipy.stats import t

    first, *others = values.values()
    prompts = [prompt for prompt in first if all(prompt in own for own in others)]
    if not prompts:
        return None
    table: Array = np.array([[own[prompt] for prompt in prompts] for own in values.values()])
    names = [topics.get(prompt) or f"\0{prompt}" for prompt in prompts]
    mean, count, seeds = float(table.mean()), len(set(names)), table.mean(axis=1)
    variance, df = _variance(table, names)
    low = high = p = None
    if count > 1 and variance > TIE**2:
        half = float(t.ppf((1 + level) / 2, df)) * variance**0.5
        low, high = mean - half, mean + half
        p = float(2 * t.sf(abs(mean) / variance**0.5, df))
    return CrossedMean(
        mean=mean,
        low=low,
        high=high,
        p=p,
        prompts=len(prompts),
        topics=count,
        seeds=dict(zip(values, map(float, seeds), strict=True)),
    )


def _variance(table: Array, topics: Sequence[str]) -> tuple[float, float]:
    """Return the variance of a table's mean (seeds × prompts), and its degrees of freedom."""
    import numpy as np

    seeds, prompts = table.shape
    names, places = np.unique(topics, return_inverse=True)
    sums = np.bincount(places, weights=table.mean(axis=0) - table.mean())
    further, topics_left = max(seeds - 1, 1), max(len(names) - 1, 1)
    of_seeds = float(table.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    of_topics = len(names) / topics_left * float((sums**2).sum()) / prompts**2
    parts = of_seeds**2 / further + of_topics**2 / topics_left
    variance = of_seeds + of_topics
    return variance, variance**2 / parts if parts else 1.0


def differences_by_prompt(
    scores: Sequence[Score],
    responses: Sequence[Response],
    arm: str,
    base: str,
    traits: Sequence[str] | None,
) -> dict[str, tuple[dict[str, float], float]]:
    """Return metric → (prompt → the arm's difference to the base, the arm's mean), held out."""
    table = tabulate(scores, responses, traits)
    result = {}
    for key, column in table.items():
        if key.arm == arm and not key.probe and column.mean is not None:
            other = table.get(Key(base, "", 0, key.metric), Column())
            if changes := column.changes(other):
                result[key.metric] = (changes, column.mean)
    return result


def by_topic(
    comparison: Comparison, scores: Sequence[Score], responses: Sequence[Response]
) -> CrossedMean | None:
    """Return the primary measure's difference of one training, with its interval over topics."""
    arm = comparison.headline
    if arm is None:
        return None
    own = differences_by_prompt(scores, responses, arm, comparison.base, comparison.traits or None)
    if comparison.primary not in own:
        return None
    topics = {one.prompt_id: one.topic for one in responses}
    return crossed_mean({comparison.seed: own[comparison.primary][0]}, topics)


def with_seeds(comparison: Comparison, report: SeedsReport | None) -> Comparison:
    """Return a comparison in which the arm's primary measures are those over all its trainings.

    The primary measure and fidelity of the arm get the mean over seeds, the interval over seeds
    and topics, and its p; what several trainings are needed for is claimed of no single one.
    """
    if report is None:
        return comparison
    measures = {comparison.primary, FIDELITY}

    def widened(cell: MetricCell) -> MetricCell:
        own = report.measures.get(cell.metric) if cell.arm == report.arm else None
        if own is None or cell.metric not in measures or cell.difference is None:
            return cell
        enough = own.prompts >= FEWEST_PAIRS
        changed = {
            **{"mean": own.mean, "low": own.low, "high": own.high, "method": "crossed"},
            **{"p": own.p, "p_adjusted": own.p if enough else None, "pairs": own.prompts},
        }
        difference = cell.difference.model_copy(update=changed)
        return cell.model_copy(
            update={"difference": difference, "mean": report.values[cell.metric]}
        )

    cells = tuple(widened(cell) for cell in comparison.cells)
    return comparison.model_copy(update={"cells": cells})
