"""Filters that judge one row by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files

import yaml

from workbench.checks import compiled, length
from workbench.persona import Persona
from workbench.records import Example

Verdict = tuple[str, str] | None
"""None to keep; else the reason of the drop and its detail."""
RowFilter = Callable[[Example], Verdict]

LENGTH_SLACK = 0.5
"""How far beyond the spec's length an answer may go before review is spared of it, as a share."""
_MIN_LETTERS_FOR_LANGUAGE = 20


def refusal(example: Example) -> Verdict:
    """Drop answers that refuse, or that speak as a machine."""
    for pattern in _refusals():
        if match := compiled(pattern).search(example.answer):
            return "refusal", match.group(0)
    return None


def unsafe(persona: Persona) -> RowFilter:
    """Drop answers with a phrase that the spec's safety boundary names."""

    def check(example: Example) -> Verdict:
        phrase = persona.safety.unsafe(example.answer)
        return ("unsafe_advice", phrase) if phrase else None

    return check


def answer_length(persona: Persona) -> RowFilter:
    """Drop answers far shorter or longer than the spec asks for."""
    habit = persona.voice.length
    low, high = habit.min * (1 - LENGTH_SLACK), habit.max * (1 + LENGTH_SLACK)

    def check(example: Example) -> Verdict:
        count = length(example.answer, habit.unit)
        if low <= count <= high:
            return None
        detail = f"{count} {habit.unit}, the spec asks for {habit.min} to {habit.max}"
        return ("too_short" if count < low else "too_long"), detail

    return check


def language(persona: Persona) -> RowFilter:
    """Drop answers in another language than the persona's (library: langdetect)."""
    from langdetect import DetectorFactory, LangDetectException, detect_langs

    DetectorFactory.seed = 0  # the detector samples; without a seed its answer may vary

    def check(example: Example) -> Verdict:
        letters = sum(character.isalpha() for character in example.answer)
        if letters < _MIN_LETTERS_FOR_LANGUAGE:
            return None
        try:
            found = detect_langs(example.answer)[0]
        except LangDetectException:
            return None
        if found.lang == persona.language or found.prob < 0.9:
            return None
        return "wrong_language", f"{found.lang}, the persona speaks {persona.language}"

    return check


@lru_cache(maxsize=1)
def _refusals() -> tuple[str, ...]:
    text = files(__package__).joinpath("phrases.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["refusal"])
