"""New personas from a few answers, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from workbench.checks import EmojiRule, LengthRule
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.starter import starter, write_persona

ENGLISH = {
    "id": "wine-friend",
    "language": "en",
    "name": "Sam",
    "role": "A wine merchant who makes wine easy",
    "audience": "People who never learnt about wine",
    "address": "friend",
    "topics": "red wine, white wine, food",
}
KOREAN = ENGLISH | {
    "id": "bookshop",
    "language": "ko",
    "role": "동네 책방 주인",
    "address": "독자님",
    "topics": "소설, 에세이, 독서 습관",
}
GOOD = {
    "en": "Start with a light red, friend, and chill it for ten minutes, because warm wine tastes "
    "of alcohol. Pour a small glass tonight and drink it with cheese, then tell me which of the "
    "two you would miss more.",
    "ko": "독자님, 오늘은 딱 열 쪽만 읽어요. 처음부터 한 권을 다 읽으려니까 지치는 거예요. "
    "열 쪽은 십 분이면 되거든요. 책갈피를 끼우고 내일 같은 시간에 다시 펴 봐요.",
}


def _written(folder: Path, answers: dict[str, str]) -> Persona:
    options: dict[str, Any] = {**answers, "topics": answers["topics"].split(", ")}
    return write_persona(folder / answers["id"], starter(**options))


@pytest.mark.parametrize("answers", [ENGLISH, KOREAN], ids=["en", "ko"])
def test_the_new_persona_is_valid_and_its_rules_tell_good_from_bare(
    tmp_path: Path, answers: dict[str, str]
) -> None:
    persona = _written(tmp_path, answers)
    assert persona.failed_traits(GOOD[answers["language"]]) == []
    bare = (
        "As an AI language model, there are several factors."
        if persona.language == "en"
        else ("다양한 원인이 있습니다. 다음과 같습니다. 저는 인공지능입니다.")
    )
    assert {"address", "no_encyclopedia"} <= set(persona.failed_traits(bare))


def test_topics_in_korean_get_identifiers_and_keep_their_names(tmp_path: Path) -> None:
    persona = _written(tmp_path, KOREAN)
    assert persona.topics == ("topic_1", "topic_2", "topic_3", *persona.train_only)
    assert [persona.topic_name(topic) for topic in persona.topics[:3]] == [
        "소설",
        "에세이",
        "독서 습관",
    ]


def test_topics_that_are_alike_in_ascii_stay_apart(tmp_path: Path) -> None:
    persona = _written(tmp_path, KOREAN | {"topics": "PT 가격, PT 예약, 소설, PT 예약, PT 효과"})
    assert persona.topics == ("pt", "pt_2", "topic_3", "pt_4", *persona.train_only)
    assert [persona.topic_name(topic) for topic in persona.topics[:4]] == [
        "PT 가격",
        "PT 예약",
        "소설",
        "PT 효과",
    ]


def test_a_form_of_address_that_ends_in_a_full_stop_is_found(tmp_path: Path) -> None:
    persona = _written(tmp_path, ENGLISH | {"address": "dear Sr."})
    assert "address" not in persona.failed_traits("Start light, dear Sr., because it is kinder.")
    assert "address" in persona.failed_traits("Start light, because it is kinder.")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"topics": "wine"}, "too few for splits"),
        ({"topics": "wine, wine, wine"}, "keep topics apart: 1 topic "),
        ({"id": "Wine Friend"}, "match pattern"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    tmp_path: Path, change: dict[str, str], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        _written(tmp_path, ENGLISH | change)
    assert list(tmp_path.iterdir()) == []


def test_a_persona_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    _written(tmp_path, ENGLISH)
    with pytest.raises(UserError, match="there is a persona already"):
        _written(tmp_path, ENGLISH)


@pytest.mark.parametrize("answers", [ENGLISH, KOREAN], ids=["en", "ko"])
def test_guidance_is_words_with_the_numbers_of_the_check(
    tmp_path: Path, answers: dict[str, str]
) -> None:
    traits = {trait.id: trait for trait in _written(tmp_path, answers).traits}
    length, emoji = traits["length"], traits["emoji"]
    assert isinstance(length.check, LengthRule) and isinstance(emoji.check, EmojiRule)
    assert all(str(end) in length.about for end in (length.check.min, length.check.max))
    assert emoji.check.max == 2 and re.search("Two|두 개", emoji.about)
    assert not re.search(r"\b(?:min|max|unit|where)\b", length.about + emoji.about)
