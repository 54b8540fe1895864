"""Every language has every phrase, with the same places to fill."""

from __future__ import annotations

import string

import pytest

from workbench.language import phrases, say
from workbench.persona import Language


def _places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_the_languages_have_the_same_phrases() -> None:
    assert set(phrases("en")) == set(phrases("ko"))


def test_a_phrase_has_the_same_places_in_both() -> None:
    english, korean = phrases("en"), phrases("ko")
    differing = {key for key in english if _places(english[key]) != _places(korean[key])}
    assert differing == set()


def test_a_missing_phrase_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        say("en", "no.such.phrase")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_second_answers_title_ends_with_its_label(language: Language) -> None:
    """By it the labelers' page tells rows with two answers (``labeler.js``)."""
    label = say(language, "review.question.better.b")
    titled = {key for key in phrases(language) if key.startswith("review.field.")}
    ends = {key for key in titled if say(language, key).endswith(f" {label}")}
    assert ends == {"review.field.answer_b"}
