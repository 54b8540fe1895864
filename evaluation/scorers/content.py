"""Scorer: how near an answer is to the reviewed answer of its own question, without a judge."""

from __future__ import annotations

from evaluation.overlap import chrf, own_reference_rank
from evaluation.scorers.registry import Job, score_of, scorer
from evaluation.scorers.style import EMPTY
from workbench.records import Response, Score

REFERENCE = "reference_overlap"
"""Metric: chrF of the answer against the reviewed answer of its question, 0 to 1."""
ON_QUESTION = "on_question"
"""Metric: share of other questions' reviewed answers that the answer is less like than its own."""
NO_REFERENCE = "no_reference"
"""Why an answer cannot be held against a reviewed one."""
NO_OTHER = "no_other_reference"
"""Why an answer has no rank: there is one question only."""


@scorer("content")
def content(job: Job) -> list[Score]:
    """Score answers to held-out questions against their rows; nothing where there are no rows.

    What these see is wording. A high value does not say that the advice is right, and sound advice
    in other words gets a low one: they stand in for a judge, and tell whether an answer is about
    its own question at all.
    """
    if not job.references:
        return []
    near: dict[str, float] = {}
    ranks: dict[str, float] = {}
    asked = [p for p in dict.fromkeys(r.prompt_id for r in job.in_scope) if p in job.references]
    references = [job.references[prompt] for prompt in asked]
    answered = [r for r in job.in_scope if r.prompt_id in job.references and r.text.strip()]
    if answered:
        ids, texts = [r.id for r in answered], [r.text for r in answered]
        own = [asked.index(r.prompt_id) for r in answered]
        pairs = zip(texts, own, strict=True)
        near = dict(zip(ids, (chrf(text, references[n]) for text, n in pairs), strict=True))
        if len(references) > 1:
            ranks = dict(zip(ids, own_reference_rank(texts, references, own), strict=True))
    return [
        score_of(r, metric, values.get(r.id), "" if r.id in values else _why(job, r))
        for metric, values in ((REFERENCE, near), (ON_QUESTION, ranks))
        for r in job.in_scope
    ]


def _why(job: Job, response: Response) -> str:
    if response.prompt_id not in job.references:
        return NO_REFERENCE
    return NO_OTHER if response.text.strip() else EMPTY
