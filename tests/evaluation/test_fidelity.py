from __future__ import annotations

import pytest

from evaluation.scorers import ScoringInput, fidelity, score_of
from workbench.persona import Persona
from workbench.records import Response, Score, user_prompt


def response(arm: str, prompt: str = "ex-1") -> Response:
    return Response(arm=arm, prompt_id=prompt, prompt=user_prompt("Why?"), text=f"{arm} {prompt}")


def scores(answer: Response, **values: float | None) -> list[Score]:
    return [
        score_of(answer, metric, value, "" if value is not None else "judge_timeout")
        for metric, value in values.items()
    ]


def test_arms_are_compared_on_the_traits_that_all_of_them_have(persona: Persona) -> None:
    base, sft = response("base"), response("sft")
    # The judge gave the base a no and failed on the other arm: counted, the base would lose by it.
    scored = scores(base, address=1.0, lists=1.0, kind=0.0)
    scored += scores(sft, address=1.0, lists=1.0, kind=None)
    found = {score.arm: score for score in fidelity(ScoringInput(persona, [base, sft]), scored)}
    assert (found["base"].value, found["sft"].value) == (1.0, 1.0)
    assert found["base"].parents == (base.id, scored[0].id, scored[1].id)


def test_a_failure_on_one_prompt_takes_no_trait_from_another(persona: Persona) -> None:
    first, second = response("base", "ex-1"), response("base", "ex-2")
    scored = scores(first, address=1.0, lists=1.0, kind=None)
    scored += scores(second, address=1.0, lists=1.0, kind=0.0)
    found = {
        score.prompt_id: score.value
        for score in fidelity(ScoringInput(persona, [first, second]), scored)
    }
    assert found["ex-1"] == 1.0
    assert found["ex-2"] == pytest.approx(2 / 3)


def test_arms_with_no_trait_in_common_are_unscored(persona: Persona) -> None:
    base, sft = response("base"), response("sft")
    scored = scores(base, address=1.0, kind=None) + scores(sft, address=None, kind=1.0)
    found = fidelity(ScoringInput(persona, [base, sft]), scored)
    assert {(score.value, score.unscored) for score in found} == {(None, "no_trait_scored")}
