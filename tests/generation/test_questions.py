from __future__ import annotations

import json

from generation.questions import Pool, question_id
from generation.topic_plan import topic_plan
from tests.generation.conftest import rows
from workbench.inference.completion import Completion
from workbench.persona import Persona
from workbench.records import Example, user_prompt


def answer(*questions: str) -> Completion:
    return Completion(end="ok", text=json.dumps({"questions": questions}))


def test_a_request_names_audience_topic_count_and_earlier_questions(
    persona: Persona, seeds: list[Example]
) -> None:
    pool = Pool(persona, seeds, topic_plan(persona, rows(7)), seed=0)
    requests = pool.requests(1)
    assert [(r.topic, r.count, r.name) for r in requests] == [
        ("squat", 5, "squat:1.1"),
        ("squat", 2, "squat:1.2"),
        ("sleep", 5, "sleep:1.1"),
        ("sleep", 2, "sleep:1.2"),
    ]
    text = requests[0].prompt[0].content
    assert "office workers who begin to train" in text
    assert "Topic: Squats" in text
    assert "Write 5 new questions" in text
    assert "- My knees hurt when I squat." in text
    assert len({request.prompt for request in requests}) == 4


def test_the_prompt_is_in_the_persona_s_language(persona: Persona, seeds: list[Example]) -> None:
    korean = persona.model_copy(update={"language": "ko"})
    text = Pool(korean, seeds, topic_plan(korean, rows(3)), seed=0).requests(1)[0].prompt[0].content
    assert "새 질문 3개를 한국어로 쓰세요" in text


def test_the_same_seed_shows_the_same(persona: Persona, seeds: list[Example]) -> None:
    def shown(seed: int) -> list[str]:
        pool = Pool(persona, seeds, topic_plan(persona, rows(5)), seed=seed)
        return [request.prompt[0].content for request in pool.requests(1)]

    assert shown(3) == shown(3)
    assert shown(3) != shown(4)


def test_a_question_of_an_earlier_round_is_not_new(persona: Persona, seeds: list[Example]) -> None:
    earlier = seeds[0].evolve(prompt=user_prompt("Why do my heels lift?"))
    cells = topic_plan(persona, rows(1))
    pool = Pool(persona, seeds, cells, 0, [earlier, seeds[1]])
    reason, detail = pool.near_duplicate("Why do my heels lift?") or ("", "")
    assert (reason, detail) == ("near_duplicate_question", f"of {earlier.id}, 100 of 100")
    assert pool.near_duplicate("What should I eat before squats?") is None


def test_only_new_questions_are_taken_for_their_places_and_the_rest_is_named(
    persona: Persona, seeds: list[Example]
) -> None:
    pool = Pool(persona, seeds, topic_plan(persona, rows(3)), seed=0)
    (squat, sleep) = pool.requests(1)
    first, last = "Is a belt worth it for squats?", "My heels lift. Why?"
    twin = "how deep should i squat"
    pool.take(squat, answer(first, twin, last, "More?"), "m")
    pool.take(sleep, Completion(end="failed", reason="timeout", attempts=5), "m")
    assert pool.questions == [(pool.cells[0], first), (pool.cells[2], last)]
    assert pool.open() == {"squat": [1], "sleep": [3, 4, 5]}
    assert [(drop.record, drop.reason, drop.detail) for drop in pool.dropped] == [
        (question_id(twin), "near_duplicate_question", f"of {seeds[1].id}, 100 of 100"),
        (question_id("More?"), "surplus_question", "3 were asked for"),
        ("questions:sleep:1.1", "timeout", "5 tries"),
    ]
    again = pool.requests(2)
    assert [(r.topic, r.slots) for r in again] == [("squat", (1,)), ("sleep", (3, 4, 5))]
    # The missing cell is asked for again as it was wanted.
    described = pool.cells[1].described(persona, "")
    assert f"1. {described}\n" in again[0].prompt[0].content
