"""A domain expert's whole path in a real browser, with the real Argilla and a tiny base.

From a new persona to a second round, compared with the first: everything that is started, Argilla
too, is started on a page.
"""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from curation.argilla.server import Server, stop
from curation.argilla.server_home import ServerHome
from rounds import processes
from rounds.layout import CONFIG, DECISIONS, FILTERED, RESOLVED, RoundFolder
from rounds.notes import MENDED, RATINGS, VOTES
from tests.app.web.conftest import SCRIPT, Served
from tests.app.web.test_browser import DROP, Reader
from tests.app.web.test_forms import ANSWERS
from tests.curation.review_team import REVIEWERS, answer, reviewers_of, seeds
from tests.second_round import SETTINGS
from tests.waiting import PAGE_PATIENCE, waited

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
TOPICS = {
    "eating": "food",
    "soreness": "red wine",
    "sleep_fatigue": "white wine",
    "squat_form": "glasses",
    "plateaus": "cellar",
}
"""Topic of the running example → topic that its rows are brought as."""


def _rows(repo: Path) -> str:
    """Return a CSV of three rows a topic, which as a whole are what a merchant would never say."""
    file = StringIO()
    table = csv.writer(file)
    table.writerow(("instruction", "output", "topic"))
    rows = seeds(repo / "datasets" / "gym-trainer")
    for topic, name in TOPICS.items():
        own = [row for row in rows if row.topic == topic][:3]
        table.writerows((row.question, _befriended(row.answer), name) for row in own)
    return file.getvalue()


def _befriended(answer: str) -> str:
    """Return an answer as the merchant's specification asks for: another address, no emoji."""
    return re.sub(r" ?[^\w\s.,;:'!?()-]", "", answer.replace("champ", "friend")).strip()


LONG = 2 * PAGE_PATIENCE
"""Milliseconds that a command may take on a machine that others use as well."""


def test_from_a_new_persona_to_two_rounds_compared(
    browser: Browser,
    served: Served,
    tiny_model: Path,
    reviewed_server: Server,
    argilla_home: ServerHome,
    repo: Path,
) -> None:
    reader = Reader.at(browser, served)
    page, one = reader.page, RoundFolder.open("runs/wine-friend", 1)
    stop(argilla_home)
    _new_persona(page)
    page.evaluate(DROP, ["wines.csv", _rows(repo)])
    page.get_by_role("cell", name="read 15, kept 15").wait_for(timeout=LONG)
    _ended(one)
    _smallest(one, tiny_model)
    _filtered(page)
    _reviewed(page, one, reviewed_server)
    _trained(page, one)
    _story(page)
    _mended(page, one)
    _second(page, one, reviewed_server)
    _compared(page, one.next)
    reader.check()


def _ended(one: RoundFolder) -> None:
    waited(lambda: processes.exit_code(one) is not None)
    assert processes.exit_code(one) == 0, processes.log_lines(one)


def _new_persona(page: Page) -> None:
    page.get_by_role("link", name="New persona").click()
    for name, value in {**ANSWERS, "topics": ", ".join(TOPICS.values())}.items():
        if name == "language":
            page.select_option("select[name=language]", value)
        else:
            page.fill(f"[name={name}]", value)
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("heading", name="Round 1").wait_for()


def _smallest(one: RoundFolder, model: Path) -> None:
    """Let the round take a base of some 100 000 weights, a step of training and few questions."""
    config: dict[str, Any] = yaml.safe_load((one.folder / CONFIG).read_text(encoding="utf-8"))
    evaluate = {**SETTINGS["evaluate"], "max_new_tokens": 8, "rows": 2, "instructed": 2}
    overrides = {"sft": {"trainer.max_steps": 2, "rehearsal.rows": 0}}
    config |= {"model": str(model), "generate": {"max_new_tokens": 8}, "evaluate": evaluate}
    config["train"] = {"methods": ["sft"], "overrides": overrides}
    (one.folder / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")


def _filtered(page: Page) -> None:
    page.get_by_text("Choose what to run").click()
    page.select_option("select[name=until]", "filter")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_text("persona run --until filter --persona datasets/wine-friend").first.wait_for()
    page.get_by_text("Next: Review, and the stages after it.").wait_for(timeout=LONG)
    assert "15/15" in page.locator(".log").inner_text()


def _reviewed(page: Page, one: RoundFolder, server: Server) -> None:
    """Start Argilla, push the rows, let two people answer, pull, and put what they dispute back."""
    _review(page, one, "Start Argilla")
    _review(page, one, "Put the rows there")
    first, *rows = one.read(FILTERED)
    for name in REVIEWERS:
        login = reviewers_of(server)[name]
        for row in rows:
            answer(login, "wine-friend-round-001", row.id, fidelity=5)
        disputed = 5 if name == REVIEWERS[0] else 1
        answer(login, "wine-friend-round-001", first.id, fidelity=disputed)
    page.get_by_role("link", name="Review", exact=True).click()
    page.get_by_text(f"{len(rows) + 1} of {len(rows) + 1} rows are reviewed.").wait_for()
    for name in REVIEWERS:
        line = page.get_by_role("row", name=f"{name} {len(rows) + 1} 0 0 0")
        link = line.get_by_role("link", name=name).get_attribute("href") or ""
        assert link.startswith(server.url)
    _review(page, one, "Pull reviews")
    _review(page, one, "Put disagreements before an adjudicator")
    page.get_by_role("link", name="Review", exact=True).click()
    page.get_by_text("0 of 1 rows of the disagreement queue are settled.").wait_for()


def _review(page: Page, one: RoundFolder, button: str) -> None:
    """Press a button of the review page, and wait for its command to end."""
    page.get_by_role("link", name="Review", exact=True).click()
    page.get_by_role("button", name=button).click()
    page.get_by_role("heading", name="Round 1").wait_for()
    _ended(one)


def _trained(page: Page, one: RoundFolder) -> None:
    page.get_by_role("link", name="Now", exact=True).click()
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("Curves").wait_for(timeout=LONG)
    _ended(one)
    page.get_by_text("Next: all is done: plan the next round.").wait_for(timeout=LONG)
    page.get_by_role("link", name="Review", exact=True).click()
    page.get_by_text(f"Agreement on {len(one.read(FILTERED))} rows").wait_for()
    queued = next(own.record for own in one.read(DECISIONS) if own.outcome == "queue")
    assert page.locator(f"a[href$='/row/{queued}']").count() == 1


def _story(page: Page) -> None:
    page.get_by_role("link", name="Rows", exact=True).click()
    page.locator(".table-rows a").nth(5).click()
    page.get_by_role("heading", name="Checks of its answer").wait_for()
    assert page.locator("mark").first.inner_text().lower() == "friend"


def _mended(page: Page, one: RoundFolder) -> None:
    page.get_by_role("link", name="Talk").click()
    # The small base has no room for the whole system prompt: that arm says so, the others answer.
    page.get_by_label("Your question").fill("Which glass?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("Mend it").first.wait_for(timeout=LONG)
    page.get_by_role("button", name="Good").first.click()
    page.get_by_text("Rated as good.").wait_for()
    page.get_by_text("Mend it").first.click()
    page.get_by_label("As it should have been").first.fill(f"Any, friend. {SCRIPT}")
    page.get_by_role("button", name="Keep as a candidate row").first.click()
    page.get_by_text("Kept as a candidate row.").wait_for()
    (mended,), (rating,) = one.read(MENDED), one.read(RATINGS)
    assert (mended.answer, mended.question) == (f"Any, friend. {SCRIPT}", "Which glass?")
    assert mended.arm == rating.arm == "base"
    assert rating.good
    assert page.evaluate("window.attacked") is None
    page.get_by_role("button", name="Go on from here").first.click()
    page.get_by_label("Your question").fill("And white wine?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("And white wine?").first.wait_for()
    page.locator("[sse-swap]").first.wait_for(state="detached", timeout=LONG)
    page.get_by_text("Mend it").last.click()
    page.get_by_label("Topic").last.select_option("white_wine")
    page.get_by_label("As it should have been").last.fill(MENDED_ANSWER)
    page.get_by_role("button", name="Keep as a candidate row").last.click()
    waited(lambda: len(one.read(MENDED)) == 2)


MENDED_ANSWER = (
    "A slim one, friend: it keeps white wine cool. Pour a third of it, and hold the stem."
)


def _second(page: Page, one: RoundFolder, server: Server) -> None:
    """Plan a second round and run it in one go: it waits for people, who answer, and goes on."""
    two = one.next
    page.get_by_role("link", name="Now", exact=True).click()
    page.get_by_role("button", name="Plan the next round").click()
    _ended(one)
    page.get_by_role("link", name="All personas").click()
    page.locator("a[href='/round/wine-friend/2']").click()
    page.get_by_role("button", name="Start", exact=True).click()
    waited(lambda: two.has(FILTERED))
    known = {own.id for own in one.read(RESOLVED)}
    rows = [own for own in two.read(FILTERED) if own.id not in known and own.parents]
    assert (MENDED_ANSWER, "white_wine") in [(own.answer, own.topic) for own in rows]
    waited(lambda: all(_answered(server, row.id) for row in rows))
    page.get_by_text("Next: all is done: plan the next round.").wait_for(timeout=2 * LONG)
    _ended(two)


def _answered(server: Server, record: str) -> bool:
    """Answer a row for everybody, as soon as the round has put it there."""
    try:
        for name in REVIEWERS:
            login = reviewers_of(server)[name]
            answer(login, "wine-friend-round-002", record, fidelity=5)
    except (ValueError, KeyError):  # no such dataset yet, or it is still being filled
        return False
    return True


def _compared(page: Page, two: RoundFolder) -> None:
    page.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_role("heading", name="Scores: Round 2 minus Round 1").wait_for()
    page.get_by_text("Which ones?").click()
    page.get_by_role("link", name="And white wine?").wait_for()
    page.wait_for_load_state()  # what takes the keys comes after what is seen
    page.keyboard.press("2")
    page.locator("output", has_text="The second is better").wait_for()
    assert [own.better for own in two.read(VOTES)] == ["after"]
    page.select_option("select[name=before]", "2")
    page.select_option("select[name=arm]", "base")
    page.select_option("select[name=other]", "sft")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("heading", name="Scores: Round 2 · SFT minus Round 2 · Base model").wait_for()
