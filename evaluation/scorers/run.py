"""Every registered scorer over all responses, then fidelity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.scorers.fidelity import fidelity
from evaluation.scorers.registry import SCORERS, Job
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Response, Score

if TYPE_CHECKING:
    from evaluation.style import StyleClassifier


def score_responses(
    persona: Persona,
    responses: Sequence[Response],
    *,
    judge: Endpoint | None = None,
    votes: int = 1,
    cache: Path | None = None,
    style: StyleClassifier | None = None,
    references: Mapping[str, str] | None = None,
) -> list[Score]:
    """Run every scorer, then derive fidelity; one score for each response and metric.

    Args:
        persona: Whose traits are scored.
        responses: Of all arms together: fidelity is compared on the traits that all arms have.
        judge: The judge's endpoint; without one the judge's metrics are unscored.
        votes: How often the judge is asked each question.
        cache: File of the judge's answers, so that none is asked for twice.
        style: Of :func:`evaluation.style.train_style`; without one there is no metric ``style``.
        references: Prompt id → the reviewed answer to it, for the metrics of content.

    Raises:
        UserError: The judge's endpoint is down or refuses us.
    """
    job = Job(persona, responses, judge, votes, cache, style, references or {})
    scores = [score for run in SCORERS.values() for score in run(job)]
    return scores + fidelity(job, scores)
