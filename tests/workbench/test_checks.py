"""The checks: what counts as opening and closing, and where each rule draws its line."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from workbench.checks import Check, Judge
from workbench.parts import length, part, sentences

TEXT = "Stop, champ! Put the bar down.\nWalk five minutes today. I'll check on Friday. 💪🔥"


def _passes(check: dict[str, object], text: str = TEXT) -> bool:
    rule = TypeAdapter(Check).validate_python(check)
    assert not isinstance(rule, Judge)
    return bool(rule.passes(text))


def test_sentences_end_at_marks_and_line_breaks() -> None:
    assert sentences("One. Two!  Three?\nFour… five 1.5 kg") == [
        "One.",
        "Two!",
        "Three?",
        "Four…",
        "five 1.5 kg",
    ]


def test_the_opening_is_the_first_sentence() -> None:
    assert part(TEXT, "opening") == "Stop, champ!"


def test_the_closing_keeps_the_emoji_that_follow_the_last_spoken_sentence() -> None:
    assert part(TEXT, "closing") == "I'll check on Friday. 💪🔥"


def test_empty_text_has_empty_parts() -> None:
    assert (part("", "opening"), part("", "closing")) == ("", "")


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"rule": "matches", "patterns": ["CHAMP"], "where": "opening"}, True),
        ({"rule": "matches", "patterns": ["friday"], "where": "opening"}, False),
        ({"rule": "matches", "patterns": ["bar", "walk", "swim"], "min": 2}, True),
        ({"rule": "matches", "patterns": ["bar", "run", "swim"], "min": 2}, False),
        ({"rule": "lacks", "patterns": [r"^\d+\."]}, True),
        ({"rule": "lacks", "patterns": ["friday"]}, False),
        ({"rule": "emoji", "min": 1, "max": 2, "where": "closing"}, True),
        ({"rule": "emoji", "min": 3, "max": 4, "where": "closing"}, False),
        ({"rule": "emoji", "min": 0, "max": 0, "where": "opening"}, True),
        ({"rule": "length", "min": 4, "max": 4, "unit": "sentences"}, True),
        ({"rule": "length", "min": 1, "max": 5, "unit": "words"}, False),
    ],
)
def test_a_rule_draws_its_line(check: dict[str, object], expected: bool) -> None:
    assert _passes(check) is expected


def test_korean_is_counted_in_characters_without_spaces() -> None:
    assert length("회원님, 물 드세요! 💪", "characters") == 10


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a(", "missing \\)"),
        ("a{99999999999999999999}", "too large"),
        ("(" * 3000 + ")" * 3000, "nested too deep"),
    ],
)
def test_a_pattern_that_cannot_be_compiled_is_told(pattern: str, why: str) -> None:
    with pytest.raises(ValidationError, match=f"bad pattern .*{why}"):
        _passes({"rule": "lacks", "patterns": [pattern]})
