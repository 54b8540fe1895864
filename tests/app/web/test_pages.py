"""What the pages say of two small rounds, without a browser."""

from __future__ import annotations

import html
import re

import pytest

from app.web.page import phrases
from app.web.round_page import event
from rounds.notes import CONTESTS
from tests.app.web.conftest import ATTACKS, KOREAN, RIGHT, SCRIPT, Pages
from tests.app.web.test_guard import ROUND, csrf


def text_of(markup: str) -> str:
    """Return what a reader of a page sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def test_both_languages_have_the_same_phrases_with_the_same_values() -> None:
    english, korean = phrases("en"), phrases("ko")
    assert english.keys() == korean.keys()
    values = re.compile(r"{(\w+)}")
    for key, phrase in english.items():
        assert set(values.findall(phrase)) == set(values.findall(korean[key])), key


def test_the_first_page_says_what_was_decided_what_arms_are_worth_and_what_comes_next(
    pages: Pages,
) -> None:
    text = text_of(pages.reader().get("/").text)
    assert "Coach" in text
    assert "22 rows kept 1 dropped 1 in the queue" in text
    assert "Base model 20% 10% to 30%" in text
    assert "SFT 80% 70% to 90%" in text
    assert "Next: Report, and the stages after it." in text
    assert "persona run --persona" in text
    assert text.index("Round 2") < text.index("Round 1")


def test_a_round_says_its_stages_and_what_hangs_on_each(pages: Pages) -> None:
    page = pages.reader().get(ROUND).text
    text = text_of(page)
    assert "Import done 0.0 s 0 MiB kept 30" in text
    assert "Report to do" in text
    again = text[text.index("Do a stage again") :]
    # The filter read what import wrote; nothing that is written down hangs on the filter.
    assert "Import With it are done again: Filter Import again persona run --force import" in again
    assert "Filter Nothing hangs on it." in again


def test_a_search_finds_korean_and_english_and_filters_narrow_it(pages: Pages) -> None:
    reader = pages.reader()

    def found(**query: str) -> str:
        return text_of(reader.get(f"{ROUND}/rows", params=query).text)

    assert "30 of 30 rows" in found()
    assert "1 of 30 rows" in found(text="뻐근")
    assert KOREAN in found(text="오늘 어깨")
    decomposed = "\u1108\u1165\u1100\u1173\u11ab"
    assert "1 of 30 rows" in found(text=decomposed)
    assert "1 of 30 rows" in found(text="QUESTION 24: deep")
    assert "1 of 30 rows" in found(decision="drop")
    assert "Too long" in found(decision="drop")
    assert "1 of 30 rows" in found(decision="queue", reviewer="ann")
    assert "16 of 30 rows" in found(split="train")
    assert "No row is like that." in found(topic="sleep", split="test", text="nothing")


@pytest.mark.parametrize("number", range(26, 30))
def test_rows_that_attack_are_shown_letter_by_letter(pages: Pages, number: int) -> None:
    reader, row = pages.reader(), pages.rows[number]
    for path in (f"{ROUND}/rows", f"{ROUND}/row/{row.id}"):
        page = reader.get(path).text
        assert SCRIPT not in page
        assert "<img" not in page
        assert "49 3" not in page
    page = html.unescape(reader.get(f"{ROUND}/row/{row.id}").text)
    assert ATTACKS[number - 26] in page
    if RIGHT in row.question:
        assert 'dir="auto"' in page


def test_a_row_tells_its_story_and_a_drop_is_contested_with_a_note(pages: Pages) -> None:
    reader = pages.reader()
    dropped = pages.rows[-3]
    page = reader.get(f"{ROUND}/row/{dropped.id}").text
    assert "Too long in the stage Filter 900 words" in text_of(page)
    form = {"csrf": csrf(page), "record": dropped.id, "note": " ", "by": "Ann"}
    assert "the note is empty" in text_of(reader.post(f"{ROUND}/contest", data=form).text)
    note = f"It is right. {SCRIPT}"
    assert reader.post(f"{ROUND}/contest", data={**form, "note": note}).status_code == 303
    (own,) = pages.round().read(CONTESTS)
    assert (own.record, own.reason, own.note, own.by) == (dropped.id, "too_long", note, "Ann")
    page = reader.get(f"{ROUND}/row/{dropped.id}").text
    assert SCRIPT not in page
    assert "Contested (Ann): It is right." in text_of(page)
    assert "Contested" in text_of(reader.get(f"{ROUND}/rows?decision=drop").text)
    kept = {**form, "record": pages.rows[5].id, "note": "why"}
    assert "was not dropped" in text_of(reader.post(f"{ROUND}/contest", data=kept).text)


def test_a_row_that_was_asked_shows_every_arms_answer_with_its_marks(pages: Pages) -> None:
    row = pages.rows[2]
    page = pages.reader().get(f"{ROUND}/row/{row.id}").text
    assert '<mark title="Says champ">Champ</mark>, sit down.' in page
    assert "yes Says champ" in text_of(page)
    assert "ann" in text_of(page)
    assert "Fidelity 5 of 5" in text_of(page)
    assert "test" in text_of(page)


def test_an_event_carries_lines_as_one_part() -> None:
    assert event("log", "one\ntwo") == "event: log\ndata: one\ndata: two\n\n"
    assert event("log", "") == "event: log\ndata: \n\n"
