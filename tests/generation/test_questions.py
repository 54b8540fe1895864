from __future__ import annotations

import json

from generation.outcome import Outcome
from generation.questions import Pool, question_id
from workbench.persona import Persona
from workbench.records import Example


def answer(*questions: str) -> Outcome:
    return Outcome(status="ok", text=json.dumps({"questions": questions}))


def test_a_request_names_audience_topic_count_and_earlier_questions(
    persona: Persona, seeds: list[Example]
) -> None:
    pool = Pool(persona, seeds, per_topic=7, seed=0)
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
    text = Pool(korean, seeds, per_topic=3, seed=0).requests(1)[0].prompt[0].content
    assert "새 질문 3개를 한국어로 쓰세요" in text


def test_the_same_seed_shows_the_same(persona: Persona, seeds: list[Example]) -> None:
    def shown(seed: int) -> list[str]:
        pool = Pool(persona, seeds, per_topic=5, seed=seed)
        return [request.prompt[0].content for request in pool.requests(1)]

    assert shown(3) == shown(3)
    assert shown(3) != shown(4)


def test_only_new_questions_are_taken_and_the_rest_is_named(
    persona: Persona, seeds: list[Example]
) -> None:
    pool = Pool(persona, seeds, per_topic=2, seed=0)
    (squat, sleep) = pool.requests(1)
    first, second = "Is a belt worth it for squats?", "My heels lift. Why?"
    twin = "how deep should i squat"
    pool.take(squat, answer(twin, first, "is a belt worth it, for squats", second, "More?"), "m")
    pool.take(sleep, Outcome(status="failed", reason="timeout", attempts=5), "m")
    assert pool.questions == {"squat": [first, second], "sleep": []}
    assert pool.missing() == {"sleep": 2}
    assert [(drop.record, drop.reason, drop.detail) for drop in pool.dropped] == [
        (question_id(twin), "near_duplicate_question", f"of {seeds[1].id}, 100 of 100"),
        (
            question_id("is a belt worth it, for squats"),
            "near_duplicate_question",
            f"of {question_id(first)}, 100 of 100",
        ),
        (question_id("More?"), "surplus_question", "squat has its 2"),
        ("questions:sleep:1.1", "timeout", "5 tries"),
    ]
    assert [(r.topic, r.count) for r in pool.requests(2)] == [("sleep", 2)]
