"""A domain expert's whole path in a real browser, with the real Argilla and a tiny base.

From a new persona to a mended answer: everything that is started is started on a page.
"""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from curation.argilla.server import Server
from rounds import processes
from rounds.layout import CONFIG, FILTERED, RoundFolder
from rounds.notes import MENDED, RATINGS
from tests.app.web.conftest import SCRIPT, Served
from tests.app.web.test_browser import DROP, Reader
from tests.app.web.test_forms import ANSWERS
from tests.curation.review_team import REVIEWERS, answer, reviewers_of, seeds
from tests.rounds.test_processes import waited
from tests.second_round import SETTINGS

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


LONG = 60_000
"""Milliseconds that a command may take on a machine that others use as well."""


def test_from_a_new_persona_to_a_mended_answer(
    browser: Browser, served: Served, tiny_model: Path, reviewed_server: Server, repo: Path
) -> None:
    reader = Reader.at(browser, served)
    page, one = reader.page, RoundFolder.open("runs/wine-friend", 1)
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
    reader.check()


def _ended(one: RoundFolder) -> None:
    waited(lambda: processes.exit_code(one) is not None, 60)
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
    overrides = {"sft": {"trainer.max_steps": 2}}
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
    """Push the rows, let two people answer in Argilla, and pull what they said."""
    page.get_by_role("link", name="Review", exact=True).click()
    page.get_by_role("button", name="Put the rows there").click()
    _ended(one)
    rows = one.read(FILTERED)
    for login in (reviewers_of(server)[name] for name in REVIEWERS):
        for row in rows:
            answer(login, "wine-friend-round-001", row.id, fidelity=5)
    page.get_by_role("link", name="Review", exact=True).click()
    page.get_by_text(f"{len(rows)} of {len(rows)} rows are reviewed.").wait_for()
    page.get_by_role("button", name="Pull reviews").click()
    _ended(one)


def _trained(page: Page, one: RoundFolder) -> None:
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("Curves").wait_for(timeout=LONG)
    _ended(one)
    page.get_by_text("Next: all is done: plan the next round.").wait_for(timeout=LONG)


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
    waited(lambda: page.get_by_text("Mend it").count() >= 2, 60)
