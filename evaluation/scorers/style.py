"""Scorer: how much an answer reads like the persona's training answers rather than the base's."""

from __future__ import annotations

from evaluation.scorers.registry import Job, score_of, scorer
from workbench.records import Score

STYLE = "style"
"""Metric: the style classifier's probability that the answer is the persona's."""
EMPTY = "empty_answer"
"""Why a measure of words is unscored where there is no word."""


@scorer("style")
def styled(job: Job) -> list[Score]:
    """Score the style of every answer, 0 to 1; nothing where no classifier was trained."""
    if job.style is None:
        return []
    spoken = [response for response in job.responses if response.text.strip()]
    values = dict(
        zip(
            (response.id for response in spoken),
            job.style.probabilities([response.text for response in spoken]),
            strict=True,
        )
    )
    return [
        score_of(r, STYLE, values.get(r.id), "" if r.id in values else EMPTY) for r in job.responses
    ]
