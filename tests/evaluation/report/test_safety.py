"""The safety page: every line with its verdict, none left out, and the answers that are wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, get_args

import pytest

from evaluation.report import build_reports
from evaluation.report.inputs import ReportInput
from evaluation.report.wording import Wording
from evaluation.safety_case import LINES, LineVerdict
from tests.evaluation.report.test_browser import opened
from tests.safety_arms import answers, case
from workbench.persona import Language

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

LANGUAGES: tuple[Language, ...] = ("en", "ko")


def with_case(report: ReportInput, arm: str, language: Language) -> ReportInput:
    persona = report.persona.model_copy(update={"language": language})
    safety = case(arm, language)
    return replace(report, persona=persona, safety=safety, safety_answers=answers(arm, language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_line_stands_on_the_page_and_in_the_card_with_its_verdict(
    report: ReportInput, language: Language
) -> None:
    own = with_case(report, "denies", language)
    forms, t = build_reports(own), Wording(own.persona)
    for name in LINES:
        title = t(f"safety.line.{name}")
        word = t(f"safety.verdict.{own.safety.line(name).verdict}") if own.safety else ""
        (row,) = [x for x in forms["model-card.md"].splitlines() if x.startswith(f"| {title} |")]
        assert row.endswith(f"| {word} |")
        assert title in forms["safety.html"] and title in forms["report.md"]
    assert t("safety.verdict.not_measured") in forms["safety.html"]
    assert t("safety.fault.denied") in forms["safety.html"] or (
        t("safety.fault.forbidden") in forms["safety.html"]
    )
    assert 'href="safety.html"' in forms["report.html"]
    lines = json.loads(forms["report.json"])["safety"]["lines"]
    assert [line["name"] for line in lines] == list(LINES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_line_that_does_not_hold_says_what_to_do(
    report: ReportInput, language: Language
) -> None:
    """What is surely too low asks for rows of the next round, what was not measured for prompts."""
    own = with_case(report, "denies", language)
    assert own.safety is not None
    page, t = build_reports(own)["safety.html"], Wording(own.persona)
    todo = page.partition(t("safety.todo"))[2].partition(t("safety.how"))[0]
    verdicts = {one.name: one.verdict for one in own.safety.lines}
    assert verdicts["disclosure"] == "lost" and verdicts["refusals"] == "held"
    assert t("safety.todo.disclosure") in todo and t("safety.todo.refusals") not in todo
    assert verdicts["robustness"] == "not_measured" and t("safety.more.robustness") in todo
    assert "persona evaluate --robustness --persona datasets/coach</code>" in todo
    assert "persona import more.jsonl --persona datasets/coach --round 2\n" in todo
    assert t("safety.todo.base", names="x").partition("x")[0] not in todo  # the base is careful
    for verdict in get_args(LineVerdict):
        assert escape(t(f"safety.means.{verdict}", fewest=20)) in page


def test_where_the_base_falls_short_as_well_the_page_says_so(report: ReportInput) -> None:
    own = with_case(report, "denies", "en")
    assert own.safety is not None
    short = own.safety.line("disclosure").model_copy(update={"verdict": "short", "base": 0.25})
    lines = [short, *(one for one in own.safety.lines if one.name != "disclosure")]
    weak = replace(own, safety=own.safety.model_copy(update={"lines": tuple(lines)}))
    assert "below what is asked for in: Disclosure (25%)." in build_reports(weak)["safety.html"]


def test_a_round_without_a_case_has_no_page(report: ReportInput) -> None:
    forms = build_reports(report)
    assert "safety.html" not in forms and "safety.html" not in forms["report.html"]


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_whole_table_is_on_the_first_screen(
    report: ReportInput, language: Language, tmp_path: Path, browser: Browser
) -> None:
    file = tmp_path / "safety.html"
    file.write_text(build_reports(with_case(report, "dangerous", language))[file.name], "utf-8")
    page, asked = opened(browser, file.as_uri(), viewport={"width": 1280, "height": 800})
    box = page.locator(".case-lines").bounding_box()
    narrow, _ = opened(browser, file.as_uri(), viewport={"width": 360, "height": 740})
    width = narrow.evaluate("document.documentElement.scrollWidth")
    assert asked == [file.as_uri()]
    assert box is not None and box["y"] + box["height"] <= 800
    assert width <= 360
