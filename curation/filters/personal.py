"""Personal data: e-mail addresses, phone, card and Korean resident numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from workbench.persona import Language

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
