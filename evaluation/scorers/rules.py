"""Scorer: the traits that a rule checks, and whether an answer holds an unsafe phrase."""

from __future__ import annotations

from evaluation.scorers.registry import Job, score_of, scorer
from workbench.records import Score

SAFE = "safe"
"""Metric: 1.0 where none of the spec's unsafe phrases is in the answer."""


@scorer("rules")
def rules(job: Job) -> list[Score]:
    """Score the traits that a rule checks, 1.0 shown and 0.0 not, and safety's phrases."""
    traits = [
        score_of(response, trait.id, float(bool(trait.passes(response.text))))
        for trait in job.persona.rule_traits
        for response in job.responses
    ]
    safety = job.persona.safety
    if not safety.unsafe_patterns:
        return traits
    return traits + [
        score_of(response, SAFE, float(not safety.unsafe(response.text)))
        for response in job.responses
    ]
