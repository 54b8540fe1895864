"""A person's way through the review, in a real browser against the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.argilla.client import Connection
from curation.argilla.dataset import problem_labels
from curation.argilla.pull import pull, review_progress
from curation.argilla.push import push
from curation.argilla.server import Server, ServerHome, start
from tests.curation.review_page import ReviewPage, browsing
from workbench.language import say
from workbench.persona import Persona, load_persona
from workbench.records import Example, Message, Role, user_prompt

pytestmark = pytest.mark.slow

REVIEWER = "browser-reviewer"
ROUND = "round-020"
TALKS = "round-021"
GOOD = "회원님, 지금 바로 일어나서 어깨를 돌리세요. 오늘은 산책 10분! 제가 내일 확인할게요. 💪"
ROWS = [
    ("데드리프트 할 때 허리가 굽어요.", GOOD, 0),
    ("무릎이 아픈데 스쿼트 해도 돼요?", GOOD, 1),
    ("무릎이 아픈데 런지 해도 돼요?", "여러 가지 요인이 있습니다.", 1),
    ("회식 다음 날에도 운동해요?", GOOD, 0),
    ("단백질은 얼마나 먹어요?", "Achilles was a hero.", 0),
]


@pytest.fixture(scope="module")
def server(argilla_server: Server, argilla_home: ServerHome) -> Server:
    return start(argilla_home, [REVIEWER], reuse=True)


@pytest.fixture(scope="module")
def persona(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer-ko")


@pytest.fixture(scope="module")
def rows(persona: Persona) -> list[Example]:
    topics = persona.topics
    return [
        Example(prompt=user_prompt(question), answer=answer, topic=topics[topic])
        for question, answer, topic in ROWS
    ]


@pytest.fixture
def ui(
    chromium: str, server: Server, persona: Persona, rows: list[Example]
) -> Iterator[ReviewPage]:
    owner = Connection(server.url, server.owner_api_key)
    push(owner, persona, ROUND, rows, reviewers_per_record=1, few_shot=rows[:1])
    with browsing(chromium, server.url) as opened:
        yield opened


def test_what_a_reviewer_clicks_is_what_is_pulled(
    ui: ReviewPage, server: Server, persona: Persona, rows: list[Example]
) -> None:
    owner = Connection(server.url, server.owner_api_key)
    address = review_progress(owner, persona, ROUND).url
    ui.sign_in(server.logins[REVIEWER])
    ui.open(address)
    ui.shows(5)
    guide = ui.guidelines()
    assert f"{persona.name}: 검토 안내" in guide
    assert all(trait.name in guide for trait in persona.traits)

    ui.filter("Metadata", "주제", persona.topic_name(persona.topics[1]))
    ui.shows(2)
    ui.open(address)
    asked = say(persona.language, "review.question.problems")
    ui.filter("Suggestions", asked, "Suggestion values", problem_labels(persona)["address"])
    ui.shows(2)
    ui.open(address)
    ui.shows(5)

    ui.search("데드리프트")
    ui.shows(1)
    assert ui.question() == ROWS[0][0]
    ui.rate(4)
    ui.mark("off_topic")
    ui.write("corrected", GOOD + " 약속해요!")
    ui.write("note", "끝을 다듬었어요.")
    ui.press("Submit")
    ui.has_done("Submitted", 1)

    ui.open(address)
    ui.shows(4)
    ui.search("단백질은")
    ui.shows(1)
    assert ui.is_marked("address"), "what the rules found is marked beforehand"
    ui.press("Discard")
    ui.open(address)
    ui.shows(3)

    found = {review.record: review for review in pull(owner, persona, ROUND)}
    assert set(found) == {rows[0].id, rows[4].id}
    submitted, discarded = found[rows[0].id], found[rows[4].id]
    assert (submitted.reviewer, submitted.status) == (REVIEWER, "submitted")
    assert submitted.answers == {
        "fidelity": 4,
        "problems": sorted([*persona.failed_traits(GOOD), "off_topic"]),
        "corrected": GOOD + " 약속해요!",
        "note": "끝을 다듬었어요.",
    }
    assert discarded.status == "discarded"


def test_a_conversation_is_read_and_the_correction_is_of_its_last_turn(
    chromium: str, server: Server, persona: Persona
) -> None:
    owner = Connection(server.url, server.owner_api_key)
    turns = ("목이 <뻐근>해요.", GOOD, "해봤는데 그대로예요.")
    roles: tuple[Role, ...] = ("user", "assistant", "user")
    prompt = tuple(Message(role=r, content=text) for r, text in zip(roles, turns, strict=True))
    talk = Example(prompt=prompt, answer="여러 가지 원인이 있어요.", topic=persona.topics[1])
    plain = Example(prompt=user_prompt("벤치프레스는요?"), answer=GOOD, topic=persona.topics[0])
    push(owner, persona, TALKS, [plain, talk], reviewers_per_record=1)
    with browsing(chromium, server.url) as ui:
        ui.sign_in(server.logins[REVIEWER])
        ui.open(review_progress(owner, persona, TALKS).url)
        ui.search("뻐근")
        ui.shows(1)
        assert [(role, text) for role, text in ui.chat()] == [
            ("질문자", "목이 <뻐근>해요."),
            (persona.name, GOOD),
        ]
        assert ui.texts() == ["해봤는데 그대로예요.", talk.answer]
        assert ui.written("corrected").strip() == talk.answer
        ui.rate(2)
        ui.write("corrected", GOOD)
        ui.press("Submit")
        ui.has_done("Submitted", 1)
    (review,) = pull(owner, persona, TALKS)
    assert (review.record, review.correction(talk.answer)) == (talk.id, GOOD)


def test_find_similar_shows_the_nearest_question_first(
    ui: ReviewPage, server: Server, persona: Persona
) -> None:
    owner = Connection(server.url, server.owner_api_key)
    ui.sign_in(server.logins[REVIEWER])
    ui.open(review_progress(owner, persona, ROUND).url)
    ui.search("런지")
    ui.shows(1)
    ui.page.get_by_text("Find similar").click()
    ui.page.wait_for_url("**similarity=record.**")
    ui.search("")
    ui.page.wait_for_url(lambda url: "search=" not in url)
    assert ui.question() == ROWS[1][0]
