"""Traits proposed from rows: planted marks are found, chance is not."""

from __future__ import annotations

from curation.proposed_traits import FEWEST, propose_traits

WORDS = ["sofa", "river", "lamp", "stone", "cloud", "paper", "winter", "orange", "button", "garden"]


def varied(number: int) -> str:
    """Return a sentence that no other number has."""
    return " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 7))


def test_planted_marks_are_found_with_their_place_and_tried_on_other_rows() -> None:
    reviewed = [f"Listen, champ: {varied(n)}. See you tomorrow." for n in range(60)]
    base = [f"There are many {varied(n + 3)} and more {varied(n)}." for n in range(60)]
    marks = {(one.check.get("where"), one.text): one for one in propose_traits(reviewed, base)}
    opening = next(one for (where, text), one in marks.items() if "champ" in text and where)
    closing = next(one for (_, text), one in marks.items() if "tomorrow" in text)
    assert opening.check["where"] == "opening"
    assert closing.check["where"] == "closing"
    for one in (opening, closing):
        assert (one.precision, one.recall) == (1.0, 1.0)
        # Each half is looked through or tried, never both.
        assert 0 < one.reviewed < 60
        assert 0 < one.base < 60


def test_what_one_half_has_by_chance_is_tried_on_the_other() -> None:
    reviewed = [varied(n) for n in range(80)]
    base = [varied(n + 5) for n in range(80)]
    assert [one for one in propose_traits(reviewed, base) if one.check["rule"] == "matches"] == []


def test_korean_marks_take_their_endings() -> None:
    reviewed = [f"회원님, {varied(n)} 하세요! 오늘도 화이팅" for n in range(40)]
    base = [f"{varied(n)} 할 수 있습니다." for n in range(40)]
    texts = [one.text for one in propose_traits(reviewed, base)]
    assert any("회원님" in text for text in texts)
    assert any("화이팅" in text for text in texts)


def test_too_few_rows_propose_nothing() -> None:
    few = [f"champ {n}" for n in range(FEWEST - 1)]
    assert propose_traits(few, [f"base {n}" for n in range(50)]) == []
    assert propose_traits([f"champ {n}" for n in range(50)], few) == []
