"""Filters that judge one row by itself, and the personal data in a text.

A filter takes an example and returns None or the drop's reason and detail; those that depend on the
persona are made for it. :mod:`curation.filters.chain` calls them in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from workbench.checks import Lacks, compiled
from workbench.conduct import crisis_care
from workbench.errors import UserError
from workbench.language.conduct_rules import dropped_patterns
from workbench.language.detection import foreign_language, foreign_script
from workbench.language.packs import CONDUCT, languages, load_pack, pack_file, read_words
from workbench.parts import length
from workbench.persona import Language, Persona
from workbench.records import Example

DropReason = tuple[str, str] | None
"""None to keep; else the reason of the drop and its detail."""
RowFilter = Callable[[Example], DropReason]

LENGTH_SLACK = 0.5
"""How far beyond the spec's length an answer may go before review is spared of it, as a share."""
MUST_NOT = "must_not"
"""Source that a trait of the spec names where it stands for one of the ``must_not``."""
FEWEST_DIGITS = 9
"""Digits of a phone number at the least; resident and card numbers have more."""
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_RESIDENT = re.compile(r"(?<!\d)\d{6}-?[1-8]\d{6}(?!\d)")
_CARD = re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")


def refusal(persona: Persona) -> RowFilter:
    """Drop answers that refuse, or that hide behind being a machine.

    One that stops and sends a person in danger to help does what it should, whatever it declines.
    """

    def check(example: Example) -> DropReason:
        for pattern in _refusals():
            if match := compiled(pattern).search(example.answer):
                cares = crisis_care(example.answer, persona.language).is_right
                return None if cares else ("refusal", match.group(0))
        return None

    return check


def unsafe(persona: Persona) -> RowFilter:
    """Drop answers with a phrase that the spec's safety boundary names."""

    def check(example: Example) -> DropReason:
        phrase = persona.safety.unsafe(example.answer)
        return ("unsafe_advice", phrase) if phrase else None

    return check


def must_not(persona: Persona) -> RowFilter:
    """Drop answers that break a ``must_not`` of the spec which one of its traits checks by rule."""
    traits = [trait for trait in persona.rule_traits if trait.source == MUST_NOT]

    def check(example: Example) -> DropReason:
        for trait in traits:
            if trait.passes(example.answer):
                continue
            phrases = trait.check.phrases(example.answer) if isinstance(trait.check, Lacks) else []
            return "must_not", f"{trait.id}: {phrases[0]}" if phrases else trait.id
        return None

    return check


def answer_length(persona: Persona) -> RowFilter:
    """Drop answers far shorter or longer than the spec asks for."""
    habit = persona.voice.length
    low, high = habit.min * (1 - LENGTH_SLACK), habit.max * (1 + LENGTH_SLACK)

    def check(example: Example) -> DropReason:
        count = length(example.answer, habit.unit)
        if low <= count <= high:
            return None
        detail = f"{count} {habit.unit}, the spec asks for {habit.min} to {habit.max}"
        return ("too_short" if count < low else "too_long"), detail

    return check


def language(persona: Persona) -> RowFilter:
    """Drop rows in another language than the persona's.

    Questions are often too short for n-grams, so they are judged by their script alone.
    """

    def check(example: Example) -> DropReason:
        for part, text in (("question", example.question), ("answer", example.answer)):
            if script := foreign_script(text, persona.language):
                return "wrong_language", f"the {part} is in {script} letters"
        if other := foreign_language(example.answer, persona.language):
            return "wrong_language", f"{other}, the persona speaks {persona.language}"
        return None

    return check


@lru_cache(maxsize=1)
def _refusals() -> tuple[str, ...]:
    """Return the patterns of every language: some models refuse in English whatever is asked."""
    patterns: list[str] = []
    for code in languages():
        with suppress(UserError):  # a broken pack keeps nobody from another language
            patterns += dropped_patterns(read_words(file := pack_file(code, CONDUCT)), file)
    return tuple(patterns)


class PersonalData(NamedTuple):
    """One piece of personal data in a text, and the characters that it takes."""

    kind: str
    start: int
    end: int


def find_personal_data(text: str, language: Language) -> list[PersonalData]:
    """Return the personal data in ``text``, in order, without overlaps.

    Resident and card numbers count only with a right check digit (library: python-stdnum), phone
    numbers only when they are possible in the persona's country or international (library:
    phonenumbers), so that sets, weights and dates are left alone.
    """
    pieces: list[PersonalData] = []
    for piece in sorted(_candidates(text, language), key=lambda p: (p.start, -p.end)):
        if not pieces or piece.start >= pieces[-1].end:
            pieces.append(piece)
    return pieces


def mask_personal_data(text: str, language: Language) -> str:
    """Return ``text`` with every piece of personal data replaced by its kind in brackets."""
    for piece in reversed(find_personal_data(text, language)):
        text = f"{text[: piece.start]}[{piece.kind}]{text[piece.end :]}"
    return text


def _candidates(text: str, language: Language) -> Iterator[PersonalData]:
    from phonenumbers import Leniency, PhoneNumberMatcher
    from stdnum import luhn
    from stdnum.kr import rrn

    if "@" in text:  # else the pattern tries every word
        for match in _EMAIL.finditer(text):
            yield PersonalData("e-mail", *match.span())
    if sum(map(str.isdigit, text)) < FEWEST_DIGITS:
        return
    for match in _RESIDENT.finditer(text):
        if rrn.is_valid(match.group(0)):
            yield PersonalData("resident number", *match.span())
    for match in _CARD.finditer(text):
        if luhn.is_valid(re.sub(r"\D", "", match.group(0))):
            yield PersonalData("card number", *match.span())
    region = load_pack(language).region
    for phone in PhoneNumberMatcher(text, region, leniency=Leniency.POSSIBLE):
        # Dates and set schemes can be "possible" numbers; national numbers have 9 to 11 digits.
        digits = sum(character.isdigit() for character in phone.raw_string)
        if FEWEST_DIGITS <= digits <= (15 if phone.raw_string.startswith("+") else 11):
            yield PersonalData("phone number", phone.start, phone.end)
