"""What a scorer is given, what it gives back, and where it registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Response, Score

if TYPE_CHECKING:
    from evaluation.style import StyleClassifier

NO_JUDGE = "no_judge"
"""Why a judge's metric is unscored where no judge is configured."""


@dataclass(frozen=True)
class Job:
    """What a scorer is given.

    Attributes:
        persona: Whose traits are scored.
        responses: To be scored.
        judge: The judge's endpoint, or None where there is none.
        votes: How often the judge is asked each question.
        cache: File of the judge's answers, read before asking and added to; None to keep none.
        style: The trained style classifier, or None where there is none.
        references: Prompt id → the reviewed answer to it; of a probe, what is expected.
    """

    persona: Persona
    responses: Sequence[Response]
    judge: Endpoint | None = None
    votes: int = 1
    cache: Path | None = None
    style: StyleClassifier | None = None
    references: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_scope(self) -> list[Response]:
        """The responses to held-out questions, probes left out."""
        return [response for response in self.responses if not response.probe]


Scorer = Callable[[Job], list[Score]]
SCORERS: dict[str, Scorer] = {}
"""Every registered scorer by its name, in the order that they run."""


def scorer(name: str) -> Callable[[Scorer], Scorer]:
    """Register a scorer under ``name``."""

    def register(function: Scorer) -> Scorer:
        if name in SCORERS:
            raise ValueError(f"a scorer named '{name}' is registered already")
        SCORERS[name] = function
        return function

    return register


def score_of(
    response: Response, metric: str, value: float | None = None, unscored: str = ""
) -> Score:
    """Return the score of a response: a value, or why there is none."""
    return Score(
        arm=response.arm,
        prompt_id=response.prompt_id,
        response=response.id,
        metric=metric,
        value=value,
        unscored=unscored,
        probe=response.probe,
        turn=response.turn,
        parents=(response.id,),
    )
