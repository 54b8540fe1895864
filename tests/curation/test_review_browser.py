"""A person's way through the review, in a real browser against the real server."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from curation.review.connection import Connection
from curation.review.guide import problem_labels
from curation.review.progress import status
from curation.review.pull import pull
from curation.review.push import push
from curation.server import Login, Server, ServerHome, start
from workbench.persona import Persona, load_persona
from workbench.records import Example, user_prompt

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

REVIEWER = "browser-reviewer"
ROUND = "round-020"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
GOOD = "회원님, 지금 바로 일어나서 어깨를 돌리세요. 오늘은 산책 10분! 제가 내일 확인할게요. 💪"
ROWS = [
    ("데드리프트 할 때 허리가 굽어요.", GOOD, 0),
    ("무릎이 아픈데 스쿼트 해도 돼요?", GOOD, 1),
    ("무릎이 아픈데 런지 해도 돼요?", "여러 가지 요인이 있습니다.", 1),
    ("회식 다음 날에도 운동해요?", GOOD, 0),
    ("단백질은 얼마나 먹어요?", "Achilles was a hero.", 0),
]


@pytest.fixture(scope="module")
def chromium() -> str:
    path = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        "",
    )
    if not path:
        warnings.warn("NO BROWSER: the review in a browser is NOT tested", stacklevel=1)
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return path


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
    from playwright.sync_api import sync_playwright

    owner = Connection(server.url, server.owner_api_key)
    push(owner, persona, ROUND, rows, reviewers_per_record=1, exemplars=rows[:1])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        page.set_default_timeout(20_000)
        yield ReviewPage(page, server.url)
        browser.close()


class ReviewPage:
    """What a reviewer does on Argilla's pages, in a reviewer's words."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def sign_in(self, login: Login) -> None:
        self.page.goto(f"{self.url}/sign-in")
        self.page.fill("input[type=text]", login.username)
        self.page.fill("input[type=password]", login.password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "sign-in" not in url)

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_selector("form.questions-form")

    def guidelines(self) -> str:
        self.page.get_by_label("Expand Panel").first.click()
        text = self.page.locator(".resizable-h__down").first.inner_text()
        self.page.get_by_label("Collapse Panel").first.click()
        return text

    def shows(self, total: int) -> None:
        """Wait until the list holds ``total`` records."""
        from playwright.sync_api import expect

        expect(self.page.get_by_label("Total Records")).to_have_text(f"of {total}")

    def question(self) -> str:
        return self.page.locator(".text_field_component .content-area").first.inner_text().strip()

    def search(self, words: str) -> None:
        box = self.page.get_by_placeholder("Introduce a query")
        if not box.is_visible():
            self.page.locator(".search-area__icon.--search").first.click()
        box.fill(words)
        box.press("Enter")

    def filter(self, kind: str, *choices: str) -> None:
        if not self.page.get_by_text(kind, exact=True).is_visible():
            self.page.get_by_text("Filters", exact=True).click()
        self.page.get_by_text(kind, exact=True).click()
        panel = self.page.locator(".dropdown__content")
        for choice in choices:
            panel.get_by_text(choice, exact=True).first.click()

    def asked(self, name: str) -> Locator:
        return self.page.get_by_label(f"Question: {name}")

    def rate(self, value: int) -> None:
        self.page.locator(f'label[for="fidelity_{value}"]').click()

    def mark(self, problem: str) -> None:
        self.page.locator(f'label[for="problems_{problem}"]').click()

    def is_marked(self, problem: str) -> bool:
        return self.page.locator(f"#problems_{problem}").is_checked()

    def write(self, question: str, text: str) -> None:
        """Put ``text`` in place of what the question's box holds."""
        box = self.asked(question).get_by_role("textbox")
        box.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def has_done(self, kind: str, count: int) -> None:
        """Wait until the footer counts ``count`` records as done so."""
        from playwright.sync_api import expect

        footer = self.page.locator(".wrapper__right .panel, .resizable-v__right .panel").last
        expect(footer).to_contain_text(re.compile(rf"{kind}\s*{count}", re.IGNORECASE))

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button).last.click()


def test_what_a_reviewer_clicks_is_what_is_pulled(
    ui: ReviewPage, server: Server, persona: Persona, rows: list[Example]
) -> None:
    owner = Connection(server.url, server.owner_api_key)
    address = status(owner, persona, ROUND).url
    ui.sign_in(server.login(REVIEWER))
    ui.open(address)
    ui.shows(5)
    guide = ui.guidelines()
    assert f"{persona.name}: 검토 안내" in guide
    assert all(trait.name in guide for trait in persona.traits)

    ui.filter("Metadata", "주제", persona.topic_name(persona.topics[1]))
    ui.shows(2)
    ui.open(address)
    ui.filter("Suggestions", "problems", "Suggestion values", problem_labels(persona)["address"])
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


def test_find_similar_shows_the_nearest_question_first(
    ui: ReviewPage, server: Server, persona: Persona
) -> None:
    owner = Connection(server.url, server.owner_api_key)
    ui.sign_in(server.login(REVIEWER))
    ui.open(status(owner, persona, ROUND).url)
    ui.search("런지")
    ui.shows(1)
    ui.page.get_by_text("Find similar").click()
    ui.page.wait_for_url("**similarity=record.**")
    ui.search("")
    ui.page.wait_for_url(lambda url: "search=" not in url)
    assert ui.question() == ROWS[1][0]
