"""Filters that judge one row by itself."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import yaml

from workbench.checks import Lacks, compiled
from workbench.parts import length
from workbench.persona import Language, Persona
from workbench.records import Example

Verdict = tuple[str, str] | None
"""None to keep; else the reason of the drop and its detail."""
RowFilter = Callable[[Example], Verdict]

LENGTH_SLACK = 0.5
"""How far beyond the spec's length an answer may go before review is spared of it, as a share."""
MUST_NOT = "must_not"
"""Source that a trait of the spec names where it stands for one of the ``must_not``."""
_MIN_LETTERS_FOR_LANGUAGE = 20
_SCRIPT: dict[Language, tuple[str, float]] = {"en": ("LATIN", 0.5), "ko": ("HANGUL", 0.2)}
"""The script of a language, and the least share of it among the letters of a question."""


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


def must_not(persona: Persona) -> RowFilter:
    """Drop answers that break a ``must_not`` of the spec which one of its traits checks by rule."""
    traits = [trait for trait in persona.rule_traits if trait.source == MUST_NOT]

    def check(example: Example) -> Verdict:
        for trait in traits:
            if trait.passes(example.answer):
                continue
            phrases = trait.check.found(example.answer) if isinstance(trait.check, Lacks) else []
            return "must_not", f"{trait.id}: {phrases[0]}" if phrases else trait.id
        return None

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
    """Drop rows in another language than the persona's (library: langdetect).

    The detector is asked about answers. Questions are often too short for it, so they are judged
    by their script alone.
    """
    from curation.filters.detect import likeliest

    def check(example: Example) -> Verdict:
        if script := _foreign_script(example.question, persona.language):
            return "wrong_language", f"the question is in {script} letters"
        if len(_letters(example.answer)) < _MIN_LETTERS_FOR_LANGUAGE:
            return None
        found, probability = likeliest(example.answer)
        if found == persona.language or probability < 0.9:
            return None
        return "wrong_language", f"{found}, the persona speaks {persona.language}"

    return check


def _letters(text: str) -> list[str]:
    return [character for character in text if character.isalpha()]


def _foreign_script(text: str, language: Language) -> str:
    """Return the script that most of a text is in, where the language is not written in it.

    Korean text may hold many Latin words; next to no Hangul in it is another language.
    """
    letters = _letters(text)
    if len(letters) < _MIN_LETTERS_FOR_LANGUAGE:
        return ""
    scripts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    own, least = _SCRIPT[language]
    if scripts[own] >= least * len(letters):
        return ""
    return scripts.most_common(1)[0][0].capitalize()


@lru_cache(maxsize=1)
def _refusals() -> tuple[str, ...]:
    text = files(__package__).joinpath("phrases.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["refusal"])


_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_RESIDENT = re.compile(r"(?<!\d)\d{6}-?[1-8]\d{6}(?!\d)")
_CARD = re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")
_REGION: dict[Language, str] = {"en": "US", "ko": "KR"}


class Found(NamedTuple):
    """One piece of personal data in a text."""

    kind: str
    start: int
    end: int


def find_personal_data(text: str, language: Language) -> list[Found]:
    """Return the personal data in ``text``, in order, without overlaps.

    Resident and card numbers count only with a right check digit (library: python-stdnum), phone
    numbers only when they are possible in the persona's country or international (library:
    phonenumbers), so that sets, weights and dates are left alone.
    """
    kept: list[Found] = []
    for found in sorted(_candidates(text, language), key=lambda f: (f.start, -f.end)):
        if not kept or found.start >= kept[-1].end:
            kept.append(found)
    return kept


def mask_personal_data(text: str, language: Language) -> str:
    """Return ``text`` with every piece of personal data replaced by its kind in brackets."""
    for found in reversed(find_personal_data(text, language)):
        text = f"{text[: found.start]}[{found.kind}]{text[found.end :]}"
    return text


def _candidates(text: str, language: Language) -> Iterator[Found]:
    from phonenumbers import Leniency, PhoneNumberMatcher
    from stdnum import luhn
    from stdnum.kr import rrn

    for match in _EMAIL.finditer(text):
        yield Found("e-mail", *match.span())
    for match in _RESIDENT.finditer(text):
        if rrn.is_valid(match.group(0)):
            yield Found("resident number", *match.span())
    for match in _CARD.finditer(text):
        if luhn.is_valid(re.sub(r"\D", "", match.group(0))):
            yield Found("card number", *match.span())
    for phone in PhoneNumberMatcher(text, _REGION[language], leniency=Leniency.POSSIBLE):
        # Dates and set schemes can be "possible" numbers; national numbers have 9 to 11 digits.
        digits = sum(character.isdigit() for character in phone.raw_string)
        if 9 <= digits <= (15 if phone.raw_string.startswith("+") else 11):
            yield Found("phone number", phone.start, phone.end)
