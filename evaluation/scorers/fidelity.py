"""Persona fidelity: the mean over the traits that every arm's answer to a prompt was scored on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from evaluation.scorers.registry import Job, score_of
from workbench.persona import FIDELITY
from workbench.records import Response, Score

NO_TRAIT = "no_trait_scored"
"""Why fidelity is unscored where no trait could be scored in every arm."""
_Asked = tuple[str, str, int, int]


def fidelity(job: Job, scores: Sequence[Score]) -> list[Score]:
    """Return each response's mean over its traits; unscored where there is none.

    Only those traits count that are scored in every arm that answered the same prompt. Where the
    judge failed on one arm alone, the others lose that trait too: else the arms would be compared
    on different traits, and a hard trait that fell out would look like progress.
    """
    traits = {trait.id for trait in job.persona.traits}
    own: dict[str, dict[str, Score]] = defaultdict(dict)
    for score in scores:
        if score.metric in traits and score.value is not None:
            own[score.response][score.metric] = score
    common: dict[_Asked, set[str]] = {}
    for response in job.responses:
        there = set(own[response.id])
        common[_asked(response)] = common.get(_asked(response), there) & there
    found = []
    for response in job.responses:
        shared = common[_asked(response)]
        counted = [score for trait, score in own[response.id].items() if trait in shared]
        values = [score.value for score in counted if score.value is not None]
        mean = sum(values) / len(values) if values else None
        score = score_of(response, FIDELITY, mean, "" if values else NO_TRAIT)
        parents = (response.id, *(part.id for part in counted))
        found.append(score.evolve(parents=parents))
    return found


def _asked(response: Response) -> _Asked:
    return (response.prompt_id, response.probe, response.turn, response.seed)
