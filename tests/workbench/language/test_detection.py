"""The language of a text: others are named, and a manner of speaking is no other language."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.curation.review_team import seeds
from workbench.language import detection
from workbench.language.detection import foreign_language
from workbench.persona import Language

GERMAN = "Ich habe heute keine Lust auf Sport, also bleibe ich auf dem Sofa."
FRENCH = "Bonjour, je suis fatigué ce soir, alors je reste à la maison."


@pytest.mark.parametrize(("name", "own"), [("gym-trainer", "en"), ("gym-trainer-ko", "ko")])
def test_every_shipped_answer_is_in_its_persona_s_language(
    repo: Path, name: str, own: Language
) -> None:
    answers = [row.answer for row in seeds(repo / "datasets" / name)]
    assert [answer for answer in answers if foreign_language(answer, own)] == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GERMAN, "de"),
        (FRENCH, "fr"),
        ("Hari ini saya malas berolahraga, besok saja.", "id"),
        ("회원님, 오늘은 무릎을 쉬게 하고 상체만 가볍게 하세요.", "ko"),
    ],
)
def test_another_language_is_named(text: str, code: str) -> None:
    assert foreign_language(text, "en") == code


@pytest.mark.parametrize(
    "text",
    [
        "Arr, matey, hoist them weights afore the tide turns, savvy?",
        "Thou shalt rest thy weary limbs, good knight, ere the morrow.",
        "Ye cannae train wi' a sair knee, laddie, gie it a rest.",
        "Wah gwaan, mi bredren, yuh back a go get strong, seen?",
        "omg ur squat is so good lol keep goin xx",
    ],
)
def test_english_in_a_manner_of_its_own_is_english(text: str) -> None:
    assert foreign_language(text, "en") == ""


def test_texts_too_short_or_without_letters_are_in_no_language() -> None:
    assert foreign_language("Guten Morgen!", "en") == ""
    assert foreign_language("123 456", "en") == ""


def test_clear_texts_do_not_load_the_large_models(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    detector = detection._detector

    def watched(thorough: bool) -> object:
        built.append(thorough)
        return detector(thorough)

    foreign_language.cache_clear()  # what an earlier test has asked would ask nobody
    monkeypatch.setattr(detection, "_detector", watched)
    for row in seeds(repo / "datasets" / "gym-trainer"):
        foreign_language(row.answer, "en")
    assert set(built) == {False}
    assert foreign_language(GERMAN, "en") == "de"
    assert built[-1]


@pytest.mark.parametrize("english", [0.2, 0.35])
def test_a_text_that_is_mostly_in_another_language_is_in_that_one(english: float) -> None:
    sentences = ["Sit down, breathe out and let your shoulders drop before you begin."] * 20
    count = round(20 * (1 - english))
    for mixed in (sentences[count:] + [GERMAN] * count, [GERMAN] * count + sentences[count:]):
        assert foreign_language(" ".join(mixed), "en") == "de"
