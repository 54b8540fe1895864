"""Sense: marks, echoes, loops, copies and the answer to another question earn nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from evaluation.sense import (
    AnswerSense,
    SenseInput,
    control_responses,
    most_fluent_loss,
)
from evaluation.sense import measure_sense as measure
from workbench.inference.embedder import NgramEmbedder
from workbench.records import Example, Response, user_prompt

ROWS = [
    Example(
        prompt=user_prompt("Should I wipe the bench every time?"),
        answer="Spray it and dry it after each set, champ: the next face lies where you sweat.",
    ),
    Example(
        prompt=user_prompt("Can I nap before the gym?"),
        answer="Twenty minutes with an alarm, champ, then walk in daylight and drink water.",
    ),
    Example(
        prompt=user_prompt("My neighbours hear me jump, what else is there?"),
        answer="Slow squats and bridges on a mat, champ: time under load tires without a sound.",
    ),
]
TRAIN = ("Champ, eat an egg with your bread and leave the sugar in the shop until the weekend.",)


def losses(texts: Sequence[str]) -> list[float]:
    """Of a model that finds one word strange."""
    return [9.0 if "zorgly" in text else 4.0 for text in texts]


@pytest.fixture
def inputs() -> SenseInput:
    embedder = NgramEmbedder([row.answer for row in ROWS])
    return SenseInput("en", ROWS, TRAIN, embedder, losses, "a test's")


def answer(place: int, text: str, arm: str = "sft") -> Response:
    row = ROWS[place]
    return Response(arm=arm, prompt_id=row.id, prompt=row.prompt, text=text)


def measure_sense(responses: Sequence[Response], inputs: SenseInput) -> list[AnswerSense]:
    measures = measure(responses, inputs)
    return [measures[response.id] for response in responses]


def test_the_reviewed_answers_have_a_sense_of_one(inputs: SenseInput) -> None:
    every = measure_sense([answer(n, row.answer) for n, row in enumerate(ROWS)], inputs)
    assert sum(one.sense for one in every) / 3 == pytest.approx(1.0)
    assert [one.guard for one in every] == [None] * 3


def test_the_answer_to_another_question_has_none(inputs: SenseInput) -> None:
    every = measure_sense([answer(n, ROWS[(n + 1) % 3].answer) for n in range(3)], inputs)
    assert sum(one.sense for one in every) / 3 < 0.1


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        ("", "empty"),
        (" 💪 ", "empty"),
        ("Champ, heute fahren wir mit dem Zug nach Hamburg und essen dort Fisch.", "foreign"),
        ("Spray it and dry it. " * 8, "looping"),
        ("Should I wipe the bench every time? Should I wipe the bench, champ?", "echoing"),
        (TRAIN[0], "copied"),
        ("Should mumble fumble the zorgly quaggish, vex nobble drim drazzle.", "broken"),
    ],
)
def test_what_is_no_answer_gets_nothing_for_being_near(
    inputs: SenseInput, text: str, guard: str
) -> None:
    (one,) = measure_sense([answer(0, text)], inputs)
    assert (one.guard, one.sense) == (guard, 0.0)


def test_shares_of_what_is_copied(inputs: SenseInput) -> None:
    half = "Should I wipe the bench, champ, dry it"
    (one,) = measure_sense([answer(0, half)], inputs)
    assert one.echo == pytest.approx(5 / 8)
    (one,) = measure_sense([answer(0, TRAIN[0] + " " + ROWS[0].answer)], inputs)
    assert one.copy == pytest.approx(17 / 33)
    assert one.guard is None


def test_n_grams_give_no_rank_on_the_question(inputs: SenseInput) -> None:
    assert measure_sense([answer(0, ROWS[0].answer)], inputs)[0].on_question is None


def test_the_band_ends_one_deviation_above_the_reviewed_answers() -> None:
    assert most_fluent_loss([4.0, 5.0, 6.0]) == pytest.approx(7.0)


def test_probes_and_questions_without_a_row_are_left_out(inputs: SenseInput) -> None:
    probe = answer(0, "Champ, no.").evolve(probe="format")
    stranger = answer(0, "Champ, no.").evolve(prompt_id="ex-0")
    assert measure([probe, stranger], inputs) == {}


def test_every_control_answers_every_question_and_none_rightly(inputs: SenseInput) -> None:
    controls = control_responses(ROWS, TRAIN, seed=1)
    assert list(controls) == ["echo", "wrong_question", "random_order"]
    own = {row.id: row.answer for row in ROWS}
    for responses in controls.values():
        assert [one.prompt_id for one in responses] == [row.id for row in ROWS]
        assert all(own[one.prompt_id] != one.text for one in responses)
        every = measure_sense(responses, inputs)
        assert sum(one.sense for one in every) / 3 < 0.1
    assert control_responses(ROWS, TRAIN, seed=1) == controls
