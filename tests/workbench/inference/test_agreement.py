"""Agreement with reviewed answers, and what is no answer: what evaluation and GRPO share."""

from __future__ import annotations

import pytest

from workbench.inference.agreement import (
    ReviewedAnswer,
    SenseAgreement,
    echo_share,
    is_broken,
    unlooped,
    without_question,
)
from workbench.inference.embedder import NgramEmbedder

ROWS = [
    ReviewedAnswer(
        "Should I wipe the bench every time?",
        "Spray it and dry it after each set, champ: the next face lies where you sweat.",
    ),
    ReviewedAnswer(
        "Can I nap before the gym?",
        "Twenty minutes with an alarm, champ, then walk in daylight and drink water.",
    ),
    ReviewedAnswer(
        "My neighbours hear me jump, what else is there?",
        "Slow squats and bridges on a mat, champ: time under load tires without a sound.",
    ),
]


@pytest.fixture
def agreement() -> SenseAgreement:
    return SenseAgreement(ROWS, NgramEmbedder([row.answer for row in ROWS]), "en")


def test_reviewed_answers_agree_by_one_on_average_and_others_hardly(
    agreement: SenseAgreement,
) -> None:
    answers = [row.answer for row in ROWS]
    own = agreement.sense(answers, [0, 1, 2])
    assert sum(agreement.of(agreement.answers(answers, [0, 1, 2]), [0, 1, 2])) / 3 == pytest.approx(
        1.0
    )
    assert min(own) > 0.9 and max(own) <= 1
    assert agreement.sense(answers, [1, 2, 0]) == [0.0, 0.0, 0.0]


def test_marks_echoes_loops_and_silence_have_no_sense(agreement: SenseAgreement) -> None:
    texts = ["Champ!", ROWS[0].question, "stand by the door " * 6, "", "Champ, do it now, champ."]
    assert max(agreement.sense(texts, [0] * 5)) < 0.1
    assert echo_share(ROWS[0].question, ROWS[0].question) == 1.0
    assert echo_share("Spray the bench, champ.", ROWS[0].question) == 0.0


def test_a_question_s_words_are_taken_out_of_the_answer() -> None:
    assert without_question("Wipe it, champ.", "do i wipe?", "en") == " it, champ."
    assert without_question("무릎이 아프면 쉬세요.", "무릎을 아프면?", "ko") == "  쉬세요."


def test_what_is_broken_in_itself() -> None:
    assert is_broken("")
    assert is_broken("💪")
    assert is_broken("stand by the door " * 6)
    assert not is_broken(ROWS[0].answer)


def test_a_text_that_goes_round_in_circles_is_told_from_one_that_does_not() -> None:
    assert unlooped("Champ, ten squats now, because sitting shortens your hips.") == 1.0
    assert unlooped("제가를 제가로 " * 40) < 0.05
    # Of the eight runs of four words, the last four are known.
    assert unlooped("up you go champ " * 2 + "up you go") == 0.5
    assert unlooped("Up!") == unlooped("") == 1.0
