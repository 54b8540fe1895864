"""A base that always gives one good line: the rules are taken in, variety and content are not."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import pytest

from evaluation.scorers import ScoringInput, score_responses
from evaluation.sense import SenseInput, measure_sense
from tests.present import present
from workbench.inference.embedder import NgramEmbedder
from workbench.persona import Persona
from workbench.records import Example, Response, Score, user_prompt
from workbench.stats import compare

QUESTIONS = {
    "My wrist hurts.": "Champ, drop the bar and bend the wrist straight over the elbow.",
    "I sleep four hours.": "Champ, lights off at ten and no phone in the bed tonight.",
    "Stairs make me pant.": "Champ, climb one floor slowly and breathe out at every step.",
    "I ate cake again.": "Champ, put an egg on your next plate before anything sweet.",
    "Gyms scare me.": "Champ, walk in at noon and sit at the rowing machine for five.",
    "My knees click.": "Champ, sit back onto a chair and stand up, knees over toes.",
}
CANNED = "Champ, ten squats right now. I'll check on you tonight."


@pytest.fixture
def scores(persona: Persona) -> list[Score]:
    responses = []
    for question, own in QUESTIONS.items():
        row = Example(prompt=user_prompt(question), answer=own)
        # The other arm speaks of the question, in words of its own.
        other = own.replace("Champ, ", "Right, champ: ").replace(".", ", every day.")
        for arm, text in (("base", CANNED), ("sft", other)):
            responses.append(Response(arm=arm, prompt_id=row.id, prompt=row.prompt, text=text))
    rows = [
        Example(prompt=user_prompt(question), answer=own) for question, own in QUESTIONS.items()
    ]
    sense = SenseInput(
        "en",
        rows,
        (),
        NgramEmbedder([row.answer for row in rows]),
        lambda texts: [4.0] * len(texts),
        "a test's",
    )
    references = {row.id: row.answer for row in rows}
    return score_responses(
        ScoringInput(
            persona, responses, references=references, sense=measure_sense(responses, sense)
        )
    )


def means(scores: Sequence[Score], metric: str) -> dict[str, float]:
    return {
        arm: mean(present(s.value) for s in scores if (s.arm, s.metric) == (arm, metric))
        for arm in ("base", "sft")
    }


def test_by_the_rules_alone_the_canned_line_is_perfect(scores: list[Score]) -> None:
    assert means(scores, "fidelity") == {"base": 1.0, "sft": 1.0}


def test_variety_exposes_it(scores: list[Score]) -> None:
    found = means(scores, "variety")
    assert found["base"] == 0.0
    assert found["sft"] > 0.3
    difference = present(compare(scores).cell("sft", "variety").difference)
    assert present(difference.low) > 0.2


def test_it_makes_no_sense_and_the_other_arm_does(scores: list[Score]) -> None:
    senses = means(scores, "sense")
    assert senses["base"] == pytest.approx(0.0, abs=0.01)
    assert senses["sft"] > 0.7
    difference = present(compare(scores).cell("sft", "sense").difference)
    assert present(difference.low) > 0.3


def test_its_wording_is_farther_from_the_reviewed_answers(scores: list[Score]) -> None:
    found = means(scores, "reference_chrf")
    assert found["base"] < 0.4 < found["sft"]


def test_without_reviewed_answers_nothing_is_said_of_content(persona: Persona) -> None:
    answer = Response(arm="base", prompt_id="ex-1", prompt=user_prompt("Why?"), text=CANNED)
    metrics = {score.metric: score for score in score_responses(ScoringInput(persona, [answer]))}
    assert not {"sense", "on_question"} & metrics.keys()
    assert metrics["variety"].unscored == "only_answer"


def test_an_empty_answer_and_a_lone_question_are_unscored_with_the_reason(persona: Persona) -> None:
    def answer(number: int, text: str) -> Response:
        return Response(arm="base", prompt_id=f"ex-{number}", prompt=user_prompt("Why?"), text=text)

    alone = score_responses(
        ScoringInput(persona, [answer(1, "Champ, up.")], references={"ex-1": "Champ, sit."})
    )
    assert {s.metric: s.unscored for s in alone if s.unscored} == {
        "kind": "no_judge",
        "content": "no_judge",
        "variety": "only_answer",
    }
    responses = [answer(1, ""), answer(2, "Champ, up."), answer(3, "Champ, down.")]
    found = score_responses(
        ScoringInput(
            persona, responses, references={"ex-1": "Champ, sit.", "ex-2": "Champ, stand."}
        )
    )
    said = {(s.prompt_id, s.metric): s.unscored for s in found if s.metric == "reference_chrf"}
    assert said == {
        ("ex-1", "reference_chrf"): "empty_answer",
        ("ex-2", "reference_chrf"): "",
        ("ex-3", "reference_chrf"): "no_reference",
    }
