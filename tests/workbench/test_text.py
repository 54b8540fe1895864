"""Text at the border: composed, without marks, the same whoever wrote it down."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.text import changes_line, decode, normalize, normalize_all

MARKS = ("\u200b", "\ufeff", "\u200d", "\u200c", "\r\n", "\r", "\x85", "\x0b", "\x00", "\u2028")
LETTERS = ("e\u0301", "👩\u200d💻", "\u1112\u1161\u11ab", "\U000e0067", "🏴", "가", " ", "\u0627")
PIECES = st.sampled_from((*MARKS, *LETTERS))
TEXTS = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.lists(PIECES).map("".join))


@settings(deadline=None)
@given(TEXTS)
def test_normalizing_twice_changes_nothing_more(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(
        unicodedata.normalize("NFC", text)
    )


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        (unicodedata.normalize("NFD", "회원님"), "회원님"),
        ("\ufeffa\u200bb\u2060", "ab"),
        ("a\r\nb\rc\x85d\x0ce", "a\nb\nc\nd\ne"),
        ("a\u2028b\u2029c\td", "a\u2028b\u2029c\td"),
        ("\x00a\x1b[0m\x9f", "a[0m"),
        ("👩\u200d💻 x\u200dy 👍\ufe0f", "👩\u200d💻 xy 👍\ufe0f"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("🏴\U000e0067\U000e0062\U000e007f a\U000e0062", "🏴\U000e0067\U000e0062\U000e007f a"),
        ("\u202eevil\u202c\u2066x\u2069", "evilx"),
        ("e\u200b\u0301", "é"),
    ],
)
def test_what_is_taken_out_and_what_stays(text: str, normalized: str) -> None:
    assert normalize(text) == normalized


def test_changes_are_counted_and_told() -> None:
    changes: Counter[str] = Counter()
    normalize_all({"ㅎ\u200b": [unicodedata.normalize("NFD", "가"), "a\x00b\r\n"]}, changes)
    assert changes_line(changes) == (
        "1 texts composed (NFC), 1 invisible characters taken out, 1 control characters taken out"
    )
    assert changes_line(Counter()) == ""


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("cp949", "CP949"),
    ],
)
def test_a_charset_is_known_even_of_a_short_file(charset: str, name: str) -> None:
    text = "instruction,output\n무릎이 아파요,회원님 쉬세요\n"
    decoded = decode(text.encode(charset))
    assert decoded is not None
    assert (decoded.text, decoded.charset) == (text, name)


def test_one_broken_byte_does_not_make_another_charset_of_utf_8() -> None:
    raw = "무릎이 아파요\n".encode() + b"o\xffk\n"
    decoded = decode(raw)
    assert decoded is not None
    assert (decoded.charset, decoded.text) == ("UTF-8", "무릎이 아파요\no\udcffk\n")
