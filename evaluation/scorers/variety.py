"""Scorers of repetition: an arm's answers against one another, and an answer within itself."""

from __future__ import annotations

from collections import defaultdict

from evaluation.diversity import unlooped, varieties
from evaluation.scorers.registry import Job, score_of, scorer
from workbench.records import Response, Score

VARIETY = "variety"
"""Metric: 1 less the mean likeness to the arm's answers to other questions, 0 to 1."""
UNLOOPED = "unlooped"
"""Metric: share of an answer's runs of four words that are new in it, 0 to 1."""
ALONE = "only_answer"
"""Why the variety of an arm's only answer is unscored."""


@scorer("variety")
def variety(job: Job) -> list[Score]:
    """Score each answer to a held-out question against the same arm's others."""
    arms: dict[tuple[str, int], list[Response]] = defaultdict(list)
    for response in job.in_scope:
        arms[response.arm, response.seed].append(response)
    scores = []
    for responses in arms.values():
        values = varieties([response.text for response in responses])
        scores += [
            score_of(response, VARIETY, value, "" if value is not None else ALONE)
            for response, value in zip(responses, values, strict=True)
        ]
    return scores


@scorer("unlooped")
def loops(job: Job) -> list[Score]:
    """Score each answer to a held-out question by how little it repeats itself.

    Rules see a form of address or a length in a text that goes round in circles, too.
    """
    return [score_of(response, UNLOOPED, unlooped(response.text)) for response in job.in_scope]
