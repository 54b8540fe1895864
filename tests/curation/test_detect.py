"""The faster detector against the library's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.filters.detect import likeliest

from .review_team import seeds


def test_it_answers_just_as_the_library_does(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langdetect import DetectorFactory, detect_langs

    monkeypatch.setattr(DetectorFactory, "seed", 0)
    texts = ["Bonjour, je suis fatigué ce soir.", "Ich habe heute keine Lust auf Sport."]
    for name in ("gym-trainer", "gym-trainer-ko"):
        texts += [row.answer for row in seeds(repo / "datasets" / name)[::8]]
    expected = [(found.lang, found.prob) for found in (detect_langs(text)[0] for text in texts)]
    assert [likeliest(text) for text in texts] == expected
    assert {lang for lang, _ in expected} >= {"en", "ko", "fr", "de"}


def test_a_text_without_letters_is_in_no_language() -> None:
    assert likeliest("123 456") == ("", 0.0)
