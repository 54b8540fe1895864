"""Scores of responses: one metric a trait, and persona fidelity as their mean.

To add a scorer, write a function that takes a :class:`Job` and returns one :class:`Score` for each
response and metric, and decorate it with ``@scorer("name")``. What it cannot score it returns with
the reason as ``unscored``: never a 0, never nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.judge import Question, ask_judge
from workbench.checks import Judge
from workbench.endpoint import Endpoint
from workbench.persona import FIDELITY, Persona, Trait
from workbench.progress import track
from workbench.records import Response, Score, last_user_turn

NO_JUDGE = "no_judge"
"""Why a judge's trait is unscored where no judge is configured."""
NO_TRAIT = "no_trait_scored"
"""Why fidelity is unscored where no trait of the response could be."""


@dataclass(frozen=True)
class Job:
    """What a scorer is given.

    Attributes:
        persona: Whose traits are scored.
        responses: To be scored.
        judge: The judge's endpoint, or None where there is none.
    """

    persona: Persona
    responses: Sequence[Response]
    judge: Endpoint | None = None


Scorer = Callable[[Job], list[Score]]
SCORERS: dict[str, Scorer] = {}
"""Every registered scorer of traits by its name, in the order that they run."""


def scorer(name: str) -> Callable[[Scorer], Scorer]:
    """Register a scorer under ``name``."""

    def register(function: Scorer) -> Scorer:
        if name in SCORERS:
            raise ValueError(f"a scorer named '{name}' is registered already")
        SCORERS[name] = function
        return function

    return register


def score_responses(
    persona: Persona, responses: Sequence[Response], *, judge: Endpoint | None = None
) -> list[Score]:
    """Run every scorer, then derive fidelity; one score for each response and metric.

    Raises:
        UserError: The judge's endpoint is down or refuses us.
    """
    job = Job(persona, responses, judge)
    scores = [score for run in SCORERS.values() for score in run(job)]
    return scores + fidelity(job, scores)


@scorer("rules")
def rules(job: Job) -> list[Score]:
    """Score the traits that a rule checks: 1.0 shown, 0.0 not."""
    return [
        _score(response, trait.id, float(trait.check.passes(response.text)))
        for trait in job.persona.traits
        if not isinstance(trait.check, Judge)
        for response in job.responses
    ]


@scorer("judge")
def judged(job: Job) -> list[Score]:
    """Score the traits that need a judge; unscored where none is configured or it failed."""
    asked = [(t, r) for t in job.persona.traits if _criterion(t) for r in job.responses]
    if job.judge is None:
        return [_score(response, trait.id, unscored=NO_JUDGE) for trait, response in asked]
    questions = [
        Question(trait.id, _criterion(trait), last_user_turn(response.prompt), response.text)
        for trait, response in asked
    ]
    with track("asking the judge", len(questions)) as advance:
        verdicts = ask_judge(job.judge, questions, advance)
    return [
        _score(response, trait.id, verdict.value, verdict.failure)
        for (trait, response), verdict in zip(asked, verdicts, strict=True)
    ]


def fidelity(job: Job, scores: Sequence[Score]) -> list[Score]:
    """Return each response's mean over its scored traits; unscored where there is none."""
    traits = {trait.id for trait in job.persona.traits}
    values: dict[str, list[float]] = defaultdict(list)
    parents: dict[str, list[str]] = defaultdict(list)
    for score in scores:
        if score.metric in traits and score.value is not None:
            values[score.response].append(score.value)
            parents[score.response].append(score.id)
    found = []
    for response in job.responses:
        own = values[response.id]
        mean = sum(own) / len(own) if own else None
        score = _score(response, FIDELITY, mean, "" if own else NO_TRAIT)
        found.append(score.evolve(parents=(response.id, *parents[response.id])))
    return found


def _criterion(trait: Trait) -> str:
    return trait.check.judge if isinstance(trait.check, Judge) else ""


def _score(
    response: Response, metric: str, value: float | None = None, unscored: str = ""
) -> Score:
    return Score(
        arm=response.arm,
        prompt_id=response.prompt_id,
        response=response.id,
        metric=metric,
        value=value,
        unscored=unscored,
        parents=(response.id,),
    )
