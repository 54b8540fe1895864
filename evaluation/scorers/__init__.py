"""Scores of responses: rules, style, judge, content and variety, and fidelity as the traits' mean.

To add a scorer, write a function that takes a :class:`Job` and returns one :class:`Score` for each
response and metric, and decorate it with ``@scorer("name")``. What it cannot score it returns with
the reason as ``unscored``: never a 0, never nothing.
"""

# Importing a module registers its scorer; they run in this order.
from evaluation.scorers.rules import rules  # isort: skip
from evaluation.scorers.judged import judged  # isort: skip
from evaluation.scorers.style import styled  # isort: skip
from evaluation.scorers.content import content  # isort: skip
from evaluation.scorers.variety import loops, variety  # isort: skip
from evaluation.scorers.fidelity import NO_TRAIT, fidelity
from evaluation.scorers.registry import NO_JUDGE, SCORERS, Job, Scorer, score_of, scorer
from evaluation.scorers.run import score_responses

__all__ = [
    "NO_JUDGE",
    "NO_TRAIT",
    "SCORERS",
    "Job",
    "Scorer",
    "content",
    "fidelity",
    "judged",
    "loops",
    "rules",
    "score_of",
    "score_responses",
    "scorer",
    "styled",
    "variety",
]
