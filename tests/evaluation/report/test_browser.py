"""The report in a real browser: themes, narrow screens, the keyboard, links into folded rows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evaluation.outcome import sense_report
from evaluation.report import ReportInput, build_reports
from evaluation.scorers import ScoringInput, score_responses
from evaluation.sense import SenseInput, measure_sense
from tests.offline import LoopbackOnly
from tests.planted_arms import arms, base_answers, planted
from tests.waiting import PAGE_PATIENCE, PATIENCE, STUCK
from workbench.commands import RoundOptions
from workbench.inference.embedder import make_embedder
from workbench.persona import Language
from workbench.stats import compare

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture
def address(report: ReportInput, tmp_path: Path) -> str:
    file = tmp_path / "report.html"
    file.write_text(build_reports(report)[file.name], encoding="utf-8")
    return file.as_uri()


def opened(browser: Browser, address: str, **context: Any) -> tuple[Page, list[str]]:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PAGE_PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: asked.append(message.text))
    page.goto(address)
    return page, asked


def colours(page: Page) -> tuple[str, str]:
    style = "getComputedStyle(document.body)"
    return page.evaluate(f"{style}.color"), page.evaluate(f"{style}.backgroundColor")


def contrast(page: Page) -> float:
    """Return WCAG's contrast ratio of the body's text and paper."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted(map(light, colours(page)))
    return (bright + 0.05) / (dark + 0.05)


def test_it_is_readable_in_light_and_dark_and_asks_for_nothing(
    browser: Browser, address: str
) -> None:
    light, asked = opened(browser, address, color_scheme="light")
    dark, also = opened(browser, address, color_scheme="dark")
    assert asked == also == [address]
    assert colours(light) != colours(dark)
    assert contrast(light) > 7
    assert contrast(dark) > 7


OPEN = """
import sys, time
from playwright.sync_api import sync_playwright
from tests.curation.review_page import FLAGS

# The browser's own calls home are kept in, and the page's are not.
flags = [*FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 192.0.2.9"]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=flags)
    page = browser.new_page()
    begin = time.monotonic()
    page.goto(sys.argv[2], wait_until=sys.argv[3])
    print(time.monotonic() - begin, page.locator("h1").inner_text())
    page.wait_for_timeout(500)
    browser.close()
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_it_opens_at_once_and_tells_nobody_where_packets_are_dropped(
    chromium: str, address: str, tmp_path: Path, *, guarded: bool
) -> None:
    """What a slip of a template would let through, the page's own policy stops."""
    if reason := LoopbackOnly.missing():
        pytest.skip(reason)
    file = tmp_path / "report.html"
    text = file.read_text(encoding="utf-8")
    slip = '<script>new Image().src = "http://192.0.2.9/b.png"</script>'
    text = text.replace("</body>", f'<img src="http://192.0.2.9/a.png">{slip}</body>')
    if not guarded:  # the same page without its policy: the slip is seen
        text = re.sub(r"<meta http-equiv[^>]*>", "", text)
    file.write_text(text, encoding="utf-8")
    with LoopbackOnly(tmp_path, drops=True) as inside:
        until = "load" if guarded else "domcontentloaded"
        command = inside.command(sys.executable, "-c", OPEN, chromium, address, until)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        seconds, title = done.stdout.split(" ", 1)
        assert float(seconds) < STUCK and "persona take hold?" in title
        assert bool(inside.dropped()) is not guarded


def test_a_narrow_screen_never_scrolls_sideways(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.fixture(scope="module")
def first_screens(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Language], str]:
    """Return the address of a shipped trainer's report: five arms, voice and sense of each."""
    folder = tmp_path_factory.mktemp("screens")

    def address(language: Language) -> str:
        file = folder / f"{language}.html"
        if not file.exists():
            page = build_reports(trainer_report(language))["report.html"]
            file.write_text(page, encoding="utf-8")
        return file.as_uri()

    return address


def trainer_report(language: Language) -> ReportInput:
    """Return an evaluation whose verdict is long: marks without sense, and an arm that loops."""
    every = planted(language)
    rows = replace(every, test=every.test[:12])
    texts = {
        "base": base_answers(language)[:12],
        "base+prompt": arms(language)["loop"][:12],
        **{arm: arms(language)["half_canned"][:12] for arm in ("sft", "sft+dpo")},
        "sft+dpo+prompt": rows.reviewed,
    }
    responses = [one for arm, own in texts.items() for one in rows.responses(arm, own)]
    embedder = make_embedder("ngrams", language, [row.answer for row in rows.train])
    inputs = SenseInput(
        language, rows.test, [], embedder, lambda own: [4.0 for _ in own], "the base model"
    )
    measures = measure_sense(responses, inputs)
    scores = score_responses(ScoringInput(rows.persona, responses, sense=measures))
    comparison = compare(scores, "base", 0, responses=responses, resamples=200)
    return ReportInput(
        round="round-001",
        at=RoundOptions(Path("datasets/coach")),
        persona=rows.persona,
        comparison=comparison,
        responses=responses,
        scores=scores,
        sense=sense_report(rows.persona, comparison, responses, scores, measures, inputs),
    )


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_first_screen_says_both_numbers_with_their_intervals(
    browser: Browser,
    first_screens: Callable[[Language], str],
    language: Language,
    width: int,
    height: int,
) -> None:
    page, _ = opened(browser, first_screens(language), viewport={"width": width, "height": height})
    wide = width > 1000
    # On a desk also what it means, what next and what is uncertain; on a phone both numbers.
    lowest = page.locator(".advice" if wide else ".bars").bounding_box()
    assert lowest is not None and lowest["y"] + lowest["height"] <= height
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    rows = page.locator(".bars tbody tr").all()
    assert len(rows) == 5
    for row in rows:
        numbers = [one.inner_text() for one in row.locator(".num").all()]
        assert len(numbers) == 2
        for text in numbers:
            assert len(re.findall(r"\d+%", text)) == 3, text  # the mean, and both ends
        boxes = [one.bounding_box() for one in row.locator(".num").all()]
        assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    assert page.locator(".advice dt").count() == 3
    assert not page.locator("#rows").is_visible()  # the evidence is folded
    headline = page.locator(".headline").inner_text()
    tuned = [one.inner_text() for one in rows[3].locator(".num a").all()]
    assert len(tuned) == 2 and all(number in headline for number in tuned)


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_the_tuned_column_stands_whole_beside_the_base_s(
    browser: Browser, first_screens: Callable[[Language], str], width: int
) -> None:
    page, _ = opened(browser, first_screens("en"), viewport={"width": width, "height": 844})
    tuned = page.locator("#traits .heat th").nth(2)
    assert "SFT + DPO" in tuned.inner_text()
    box = tuned.bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width


def test_a_number_leads_into_its_folded_rows_by_keyboard(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address)
    assert not page.locator("#rows-address").is_visible()
    link = page.locator('.heat a[href="#rows-address"]').first
    link.focus()
    page.keyboard.press("Enter")
    page.locator("#rows-address").wait_for(state="visible")
    page.locator("#rows-address a").first.click()
    assert page.url.split("#")[1].startswith("q-")


def test_the_first_tab_skips_to_the_content_and_tables_have_names(
    browser: Browser, address: str
) -> None:
    page, _ = opened(browser, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('.scroll[role=region]')]
            .filter(one => !one.getAttribute('aria-label') || one.tabIndex !== 0).length"""
    )
    assert unnamed == 0
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_on_paper_folded_parts_of_the_results_are_unfolded(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    page, _ = opened(browser, address)
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(path=str(tmp_path / "report.pdf")).startswith(b"%PDF")
