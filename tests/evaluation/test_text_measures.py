from __future__ import annotations

import pytest

from evaluation.text_measures import diversity, diversity_by_arm, varieties
from tests.present import present
from workbench.records import Response, user_prompt


def test_one_line_for_every_question_has_no_variety() -> None:
    found = diversity(["Ten squats, champ!", "ten squats champ", "Ten squats, champ!"])
    assert found.different == 0.0
    assert found.self_similarity == pytest.approx(0.93, abs=0.02)
    assert diversity(["Same."] * 4).self_similarity == 1.0
    assert varieties(["Same."] * 4) == [0.0] * 4


def test_distinct_words_and_pairs_are_shares_of_all() -> None:
    found = diversity(["a b c", "a b d"])
    assert (found.distinct_1, found.distinct_2) == (4 / 6, 3 / 4)
    assert found.different == 1.0


def test_the_odd_one_out_has_the_most_variety() -> None:
    values = varieties(["walk ten minutes now", "walk five minutes now", "회원님, 물 드세요!"])
    assert present(values[2]) > max(present(values[0]), present(values[1]))


def test_nothing_is_said_of_an_only_answer() -> None:
    assert varieties(["Alone."]) == [None]
    assert diversity(["Alone."]).self_similarity is None
    assert diversity([]).answers == 0


def test_an_arms_answers_to_held_out_questions_count_once_each() -> None:
    def answer(arm: str, number: int, text: str, **more: object) -> Response:
        return Response(
            arm=arm, prompt_id=f"ex-{number}", prompt=user_prompt("Why?"), text=text, **more
        )

    found = diversity_by_arm(
        [
            answer("base", 1, "Sit."),
            answer("base", 2, "Sit."),
            answer("base", 2, "Run!", seed=1),
            answer("base", 3, "No.", probe="safety"),
            answer("sft", 1, "Sit."),
            answer("sft", 2, "Stand up."),
        ]
    )
    assert {arm: (d.answers, d.different) for arm, d in found.items()} == {
        "base": (2, 0.0),
        "sft": (2, 1.0),
    }
