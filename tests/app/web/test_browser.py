"""The pages in a real browser: a whole path, the keyboard, a phone, both themes, axe, no stranger.

With ``PERSONA_PICTURES`` set to a folder, pages of a finished round of the running example are put
there as pictures for the docs; ``PERSONA_RUNS`` and ``PERSONA_DATASETS`` say where it lies.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from rounds import processes
from rounds.layout import RESPONSES, TEST
from rounds.notes import CONTESTS, VOTES
from tests.app.web.conftest import Served, served_pages
from tests.waiting import PAGE_PATIENCE, waited
from workbench.records import Message

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
PATHS = ("", "/rows", "/talk", "/compare", "/review", "/report")
SERIOUS = ("serious", "critical")
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name, {type: "text/csv"}));
  document.querySelector("[data-to]").dispatchEvent(
    new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data}));
}"""


@dataclass
class Reader:
    """Somebody at the pages, and all that went wrong while they were read."""

    page: Page
    served: Served
    strangers: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, browser: Browser, served: Served, **context: Any) -> Reader:
        """Open the first link."""
        page = browser.new_context(**context).new_page()
        own = cls(page, served)
        page.set_default_timeout(PAGE_PATIENCE)
        page.on("request", lambda request: own._asked(request.url))
        page.on("console", lambda m: own.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: own.faults.append(str(error)))
        page.goto(served.link)
        return own

    def _asked(self, url: str) -> None:
        if not url.startswith((self.served.address, "data:")):
            self.strangers.append(url)

    def open(self, path: str) -> Page:
        """Open a page by its path."""
        self.page.goto(self.served.address + path)
        return self.page

    def check(self) -> None:
        """Nothing was asked of another machine, and nothing failed."""
        assert self.strangers == []
        assert self.faults == []


def wide(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width


def serious(page: Page) -> list[str]:
    """Return what axe-core finds serious or worse on a page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'][:120] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in SERIOUS
    ]


def test_attacks_are_letters_and_a_drop_is_contested_by_keyboard_alone(
    browser: Browser, served: Served
) -> None:
    reader = Reader.at(browser, served)
    page = reader.open("/round/tester/1/rows?decision=drop")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    _tab_to(page, "a[href*='/row/']")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Why it was dropped").wait_for()
    _tab_to(page, "textarea[name=note]")
    page.keyboard.type("It is right.")
    _tab_to(page, "button:has-text('Contest')")
    page.keyboard.press("Enter")
    page.get_by_text("Contested: It is right.").wait_for()
    assert [own.note for own in served.pages.round().read(CONTESTS)] == ["It is right."]
    for row in served.pages.rows[-4:]:
        page = reader.open(f"/round/tester/1/row/{row.id}")
        said = [own.replace("\r\n", "\n") for own in page.locator(".said").all_text_contents()]
        assert row.question in said
        assert row.answer in said
    reader.open("/round/tester/1/rows")
    assert page.evaluate("window.attacked") is None
    reader.check()


def _tab_to(page: Page, selector: str, most: int = 60) -> None:
    """Press Tab until what is wanted has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"the keyboard does not reach {selector}")


def test_a_search_narrows_the_table_as_one_types_and_votes_come_by_keys(
    browser: Browser, served: Served
) -> None:
    reader = Reader.at(browser, served)
    page = reader.open("/round/tester/1/rows")
    page.get_by_label("Search").press_sequentially("어깨")
    page.get_by_text("1 of 30 rows").wait_for()
    assert "text=" in page.url
    page.select_option("select[name=decision]", "keep")
    page.get_by_text("No row is like that.").wait_for()
    page = reader.open("/round/tester/2/compare")
    page.wait_for_load_state()  # what takes the keys comes after what is seen
    page.keyboard.press("2")
    page.locator("output", has_text="The second is better").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("3")
    waited(lambda: served.pages.round(2).has(VOTES))
    waited(lambda: len(served.pages.round(2).read(VOTES)) == 2)
    assert [own.better for own in served.pages.round(2).read(VOTES)] == ["after", "tie"]
    reader.check()


def test_a_running_stage_is_followed_and_another_sites_frame_stays_empty(
    browser: Browser, served: Served
) -> None:
    reader = Reader.at(browser, served)
    page = reader.open("/round/tester/1")
    one = served.pages.round()
    script = "for n in 1 2 3 4 5 6; do echo line $n; sleep 0.3; done"
    processes.start(one, ("sh", "-c", script), ("persona", "run"))
    page.get_by_role("button", name="Stop").wait_for()
    waited(lambda: processes.exit_code(one) == 0)
    page.get_by_text("line 6").wait_for()
    page.get_by_role("button", name="Stop").wait_for(state="detached")
    reader.check()
    stranger = browser.new_context().new_page()
    stranger.set_content(f"<iframe src='{served.link}'></iframe>")
    stranger.wait_for_timeout(500)
    assert "Personas" not in "".join(frame.content() for frame in stranger.frames)


@pytest.mark.parametrize("language", ["en-US", "ko-KR"])
def test_every_page_fits_a_phone_in_both_themes_and_axe_finds_nothing_serious(
    browser: Browser, served: Served, language: str
) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "locale": language}
    reader = Reader.at(browser, served, color_scheme="dark", **phone)
    korean = language == "ko-KR"
    served.pages.round().stage("report").mkdir()
    (served.pages.round().stage("report") / "report.html").write_text("<h1>R</h1>", "utf-8")
    rounds = [f"/round/tester/{2 if path == '/compare' else 1}{path}" for path in PATHS]
    row = f"/round/tester/1/row/{served.pages.rows[-3].id}"
    for path in ("/", "/new", "/persona/tester", *rounds, row):
        page = reader.open(path)
        assert page.locator("html").get_attribute("lang") == language[:2]
        assert wide(page) <= 360, path
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert wide(page) <= 360, path
        assert serious(page) == [], path
        page.emulate_media(color_scheme="light")
        assert serious(page) == [], path
        page.emulate_media(color_scheme="dark")
        words = page.locator("main").inner_text()
        assert bool(re.search("[가-힣]", words)) or not korean
    reader.check()


def test_a_short_path_in_korean_by_keyboard_alone(browser: Browser, served: Served) -> None:
    reader = Reader.at(browser, served)
    page = reader.page
    _press(page, "button:has-text('한국어')")
    page.get_by_role("heading", name="페르소나", exact=True).wait_for()
    _press(page, "a:has-text('2번째 라운드')")
    _press(page, "a:text-is('행')")
    _tab_to(page, "#text")
    page.keyboard.type("뻐근")
    # One row is there after the first syllable too; an Enter before the last table is in is lost.
    page.wait_for_url(lambda url: "뻐근" in unquote(url))
    page.get_by_text("30개 행 중 1개").wait_for()
    _press(page, "a:has-text('어깨가 뻐근해요')")
    page.get_by_role("heading", name="답변의 점검").wait_for()
    _press(page, "a:text-is('비교')")
    page.get_by_role(
        "heading", name="점수 차이: 1번째 라운드 → 2번째 라운드, 질문별로 짝지음"
    ).wait_for()
    page.wait_for_load_state()  # what takes the keys comes after what is seen
    page.keyboard.press("2")
    page.locator("output", has_text="뒤가 낫다").wait_for()
    _tab_to(page, "select[name=before]")
    page.keyboard.press("ArrowDown")  # the second round, as both sides
    _press(page, "button:has-text('보기')")
    held = "점수 차이: 2번째 라운드 · 기본 모델 → 2번째 라운드 · SFT, 질문별로 짝지음"
    page.get_by_role("heading", name=held).wait_for()
    _press(page, "a:text-is('대화')")
    _tab_to(page, "textarea[name=question]")
    page.keyboard.type("어느 잔에 따르나요?")
    assert page.locator("textarea[name=question]").input_value() == "어느 잔에 따르나요?"
    reader.check()


def _press(page: Page, selector: str) -> None:
    """Go to something by Tab, and press Enter there."""
    _tab_to(page, selector)
    page.keyboard.press("Enter")
    page.wait_for_load_state()


PICTURES = {
    "ui-home": "/",
    "ui-round": "/round/{id}/1",
    "ui-rows": "/round/{id}/1/rows",
    "ui-row": "/round/{id}/1/row/{row}",
    "ui-persona": "/persona/{id}#traits.2",
    "ui-compare": "/round/{id}/1/compare",
    "ui-review": "/round/{id}/1/review",
    "ui-report": "/round/{id}/1/report",
    "ui-talk": "/round/{id}/1/talk?talk={talk}",
}


@pytest.mark.skipif("PERSONA_PICTURES" not in os.environ, reason="only for the docs' pictures")
def test_pictures_for_the_docs(browser: Browser) -> None:
    runs, datasets = Path(os.environ["PERSONA_RUNS"]), Path(os.environ["PERSONA_DATASETS"])
    with served_pages(runs, datasets) as served:
        reader = Reader.at(browser, served, viewport={"width": 1280, "height": 800})
        values = {"id": "gym-trainer", "row": "seeds.jsonl:12"}
        values["talk"] = _talk(served)
        for name, path in PICTURES.items():
            page = reader.open(path.format(**values))
            if name == "ui-talk":
                page.get_by_text("Mend it").last.click()
            page.wait_for_timeout(2_000)
            page.screenshot(path=f"{os.environ['PERSONA_PICTURES']}/{name}.png")


def _talk(served: Served) -> str:
    """Begin a conversation with what two arms answered in the evaluation; no model is loaded."""
    context = served.pages.library.context("gym-trainer", 1)
    arms = ("base", "sft+dpo")
    talk = served.talks.begin(context, arms)
    answers = {(own.arm, own.prompt_id): own for own in reversed(context.round.read(RESPONSES))}
    row = context.round.read(TEST)[0]
    for arm in arms:
        own = answers[arm, row.id]
        talk.messages[arm] = (*own.prompt, Message(role="assistant", content=own.text))
    return talk.id
