"""The page of a round with every part, and of rounds that lack some."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from evaluation.report import ReportInput, build_reports
from evaluation.report.page import summary
from evaluation.report.verdict import verdict
from evaluation.report.wording import Wording
from tests.evaluation.report.conftest import Evaluated
from tests.present import present
from workbench.language import phrases
from workbench.persona import Persona
from workbench.stats import compare
from workbench.stats.training_seeds import SeedsReport, by_topic, with_seeds

VOID = {"meta", "br", "img", "link", "input", "hr"}
ADDRESSES = {"src", "href", "srcset", "data", "action"}


class Page(HTMLParser):
    """Checks that tags close in order; gathers text, headings and what attributes point at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.svgs: list[dict[str, str | None]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.add(tag)
        self.targets += [v or "" for k, v in attrs if k in ADDRESSES]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag == "svg":
            self.svgs.append(attributes)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if {"h1", "h2", "h3"} & set(self.open):
            self.headings[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def html_of(report: ReportInput) -> str:
    return build_reports(report)["report.html"]


@pytest.fixture
def html(report: ReportInput) -> str:
    return html_of(report)


@pytest.fixture
def page(html: str) -> Page:
    return Page(html)


def points(value: float) -> str:
    return f"{value * 100:+.1f}".replace("-", "−")


def english_left(text: str, code: str) -> list[str]:
    """Return the keys of English phrases of some words that a text in another language holds."""
    return [
        key
        for key, phrase in phrases("en").items()
        if key.startswith("report.") and phrases(code)[key] != phrase
        for piece in re.split(r"{\w+}", phrase)
        if piece.strip().count(" ") >= 2 and piece.strip() in " ".join(text.split())
    ]


def test_the_verdict_says_what_the_comparison_holds(page: Page, report: ReportInput) -> None:
    base = report.comparison.cell("base", "fidelity")
    cell = report.comparison.cell("sft+dpo", "fidelity")
    assert cell.difference and cell.difference.low and cell.difference.high
    low, high = points(cell.difference.low), points(cell.difference.high)

    # Six of eight answers show both rule traits, the other two none of them.
    assert (base.mean, cell.mean) == (0.0, 0.75)
    assert (
        f"With SFT + DPO, an answer shows 75% of the persona's traits instead of 0%: +75.0 points"
        f" (95% interval {low} to {high}), on 8 questions that training never saw." in page.text
    )


def test_every_cell_of_the_table_is_that_of_the_comparison(html: str, report: ReportInput) -> None:
    (table, *_) = re.findall(r'<table class="heat"[^>]*>(.*?)</table>', html, re.S)
    rows = [re.sub(r"<[^>]+>", " ", row) for row in table.split("<tr")[2:]]
    assert len(rows) == 4  # fidelity and its traits; other measures have a table of their own
    for metric, row in zip(("fidelity", "address", "lists", "kind"), rows, strict=True):
        text = " ".join(row.split())
        for arm in report.comparison.arms:
            cell = report.comparison.cell(arm, metric)
            if cell.mean is None:
                assert text.count("not scored needs a judge, none is configured (8)") == 4
                continue
            assert f"{cell.mean * 100:.0f}%" in text
            if cell.difference and cell.difference.method == "bca":
                low, high = cell.difference.low, cell.difference.high
                assert low is not None and high is not None
                assert f"({points(low)} to {points(high)})" in text


def test_every_arm_is_named_and_every_answer_shown_as_text(page: Page, html: str) -> None:
    for name in ("Base model", "Base + system prompt", "SFT", "SFT + DPO"):
        assert name in page.text
    assert "There are several causes of <pain>." in page.text
    assert "&lt;pain&gt;" in html


def test_before_and_after_stand_with_what_was_earned(page: Page) -> None:
    assert "Shows none of the 2 traits." in page.text
    assert "Shows all 2 traits. Earned: Form of address; No lists." in page.text
    assert "Shows 1 of 2 traits. Earned: Form of address. Still missing: No lists." in page.text


def test_words_that_earned_or_lost_a_trait_are_marked(html: str) -> None:
    assert '<mark class="earned" title="Form of address">champ</mark>' in html
    assert '<mark class="lost" title="No lists">There are several</mark>' in html


def test_planted_faults_stand_with_who_caught_them(page: Page) -> None:
    assert (
        "5 faults were planted in the imported rows to see what finds them: 4 were caught"
        " (2 by filters, 2 by reviewers), 1 got through." in page.text
    )
    assert "Of the 1 rows without a planted fault, filters took out 0 and reviewers 1." in page.text
    assert "1 more stand in rows that this round did not import." in page.text
    assert "5 Unsafe advice Fault of row 5. missed" in page.text
    assert "4 Personal data Fault of row 4. filters: masked" in page.text


def test_data_training_stages_and_reproduction_are_there(page: Page) -> None:
    assert "6 imported 5 left by the filters 3 kept by the reviewers, 1 of them" in page.text
    assert "Low fidelity 2" in page.text
    assert "Fidelity (1 to 5) 0.62 0.50 to 0.75" in page.text
    assert "All stages 3 min 06 s 1.5 GiB" in page.text
    assert "persona run --persona datasets/coach --model tiny-llama --seed 7" in page.text
    assert "torch 2.13.0" in page.text
    titles = [svg["aria-label"] for svg in page.svgs if svg["class"] == "chart"]
    assert titles == ["SFT: loss", "DPO: loss", "DPO: reward margin, chosen over rejected"]


def test_a_rule_that_reviewers_contradict_is_named_with_its_precision(page: Page) -> None:
    assert "so a score by them says little of it: Form of address." in page.text
    assert "Form of address 0.00 (0.00 to 0.00) 0% (0% to 43%; 5) – (–; 0) 20" in page.text


def test_the_page_needs_nothing_but_itself(page: Page, html: str) -> None:
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|url\(|@import|//[a-z]+\.", html)
    assert all(target.startswith("#") for target in page.targets)
    assert {target[1:] for target in page.targets} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.svgs)


def test_a_korean_persona_gets_a_korean_page(report: ReportInput, korean: Persona) -> None:
    html = html_of(replace(report, persona=korean))
    page = Page(html)
    assert '<html lang="ko">' in html
    assert "특성별 결과" in page.headings
    assert "전과 후" in page.headings
    assert "SFT + DPO 모델의 답변은 페르소나 특성의 75%를 보여 줍니다." in page.text
    assert "얻은 점: 호칭; 목록 없음." in page.text
    english = {text for key, text in phrases("en").items() if key.startswith("report.")}
    assert not english & set(page.headings) - set(phrases("ko").values())


def test_what_a_round_lacks_is_left_out(evaluated: Evaluated) -> None:
    page = Page(html_of(evaluated(["base", "base+prompt", "sft", "sft+dpo"])))

    assert [h for h in page.headings if h.startswith("How training")] == []
    gone = {"training", "data", "stages"}
    assert not gone & set(page.ids)
    assert {"traits", "forest", "answers", "reproduce", "definitions"} <= set(page.ids)


def test_without_dpo_the_verdict_is_about_sft(evaluated: Evaluated) -> None:
    page = Page(html_of(evaluated(["base", "sft"])))
    assert "With SFT, an answer shows 75% of the persona's traits" in page.text
    assert "DPO" not in page.text.split("What the numbers mean")[0]


def test_with_the_base_alone_there_is_no_comparison_to_report(evaluated: Evaluated) -> None:
    page = Page(html_of(evaluated(["base"])))
    assert "Only the base model answered: its answers show 0%" in page.text
    assert not {"forest", "answers"} & set(page.ids)


def test_the_measure_that_counts_leads_and_a_change_of_it_is_told(evaluated: Evaluated) -> None:
    report = evaluated(["base", "sft"])
    comparison = compare(report.scores, primary="address")
    other = replace(report, comparison=comparison, primaries=("fidelity", "address"))

    first, *_, last = verdict(other, Wording(report.persona))

    value = present(comparison.cell("sft", "address").mean)
    assert first.startswith("By Form of address, which was named before the run as what counts")
    assert f"SFT does better than the base: {value:.0%} instead of" in first
    assert last == (
        "The measure that counts was changed after an evaluation had been seen:"
        " Persona fidelity, Form of address."
    )
    assert summary(other)["primary"] == "address"
    lead = verdict(report, Wording(report.persona))
    assert not any("which was named before" in sentence for sentence in lead)


def test_trainings_with_other_seeds_are_told_and_decide_the_verdict(evaluated: Evaluated) -> None:
    report = evaluated(["base", "sft"])
    one = by_topic(report.comparison, report.scores, report.responses)
    alone = Page(html_of(replace(report, by_topic=one)))
    assert "One training stands behind it; how far another seed would move it" in alone.text
    wide = present(one).model_copy(
        update={"mean": 0.25, "low": -0.05, "high": 0.55, "seeds": {0: 0.3, 1: 0.2}}
    )
    seeds = SeedsReport(
        arm="sft", seeds=(0, 1), measures={"fidelity": wide}, values={"fidelity": 0.5}
    )
    several = replace(report, seeds=seeds, comparison=with_seeds(report.comparison, seeds))
    sentences = verdict(several, Wording(report.persona))
    assert sentences[0].startswith("No difference can be told: with SFT, an answer shows 50%")
    assert (
        "2 trainings with other seeds stand behind the verdict: Persona fidelity +30.0, +20.0"
        " points. Its interval is over seeds and"
    ) in " ".join(sentences)
    assert "−5.0 to +55.0" in Page(html_of(several)).text


def test_an_arm_no_better_than_the_base_is_reported_so(evaluated: Evaluated) -> None:
    page = Page(html_of(evaluated(["base", "sft"], 2)))
    assert "No difference can be told: with SFT" in page.text
    assert "(0.0 points, 95% interval −69.3 to +69.3, 2 held-out questions)" in page.text
