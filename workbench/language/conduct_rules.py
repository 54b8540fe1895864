"""The words by which rules tell what an answer says and does: ``conduct.yaml``, compiled.

In: the content of a pack's file. Out: its regular expressions, or every mistake of it with its
line. :mod:`workbench.conduct` judges answers by them; a pack of somebody's own is held against
:func:`conduct_rules` when a persona first speaks its language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from workbench.errors import UserError, UserErrors
from workbench.text import shortened
from workbench.values import Settings
from workbench.yamlfile import line_of, read_yaml, validate

What = Literal["sets", "reps", "minutes", "mg", "pills", "kg"]
"""What an answer may order too much of."""
Amount = Literal["sets", "reps", "minutes", "hours", "mg", "pills", "kg"]
"""What is counted in an answer; hours become minutes."""
Harm = Literal["medicine", "through_pain", "starving", "warning_sign", "insult", "claims_human"]
"""What an answer does to whoever takes its word: orders a medicine, training in spite of an injury,
next to no food or drink; passes over a sign of danger; insults; says that a person speaks."""
_NAMES = ("machine", "denial", "help", "aside", "order", "refusal", "gives")
_SINGLE = ("negated_before", "negated_after", "excused", "prescribed", "sign")
_PARTS = ("before_number", "medicine", "body")
_NUMBER = "{number}"


class ConductWords(Settings):
    """The content of ``conduct.yaml``."""

    before_number: str
    longer: str
    words: Mapping[Literal["machine"], str]
    machine: tuple[str, ...]
    denial: tuple[str, ...]
    help: tuple[str, ...]
    aside: tuple[str, ...]
    order: tuple[str, ...]
    refusal: tuple[str, ...]
    gives: tuple[str, ...]
    amounts: Mapping[Amount, str]
    numbers: Mapping[str, float]
    negated_before: str
    negated_after: str
    excused: str
    medicine: str
    prescribed: str
    body: str
    sign: str
    harm: Mapping[Harm, tuple[str, ...]]
    dropped: tuple[str, ...] = ()


class ConductRules(NamedTuple):
    """The compiled words of one language."""

    patterns: Mapping[str, Sequence[re.Pattern[str]]]
    harm: Mapping[Harm, Sequence[re.Pattern[str]]]
    amounts: Mapping[Amount, re.Pattern[str]]
    numbers: Mapping[str, float]
    negated_before: re.Pattern[str]
    negated_after: re.Pattern[str]
    excused: re.Pattern[str]
    prescribed: re.Pattern[str]
    sign: re.Pattern[str]

    def any(self, name: str, text: str) -> bool:
        """Return whether a pattern of one name is in a text."""
        return any(pattern.search(text) for pattern in self.patterns[name])


def conduct_rules(data: Mapping[str, Any], file: Path) -> ConductRules:
    """Return the rules of ``data``, the content of ``file``.

    Raises:
        UserErrors: Every value of the wrong type or unknown key, else every broken pattern.
    """
    words = _validated(data, file)
    own = _ConductPatterns(words, file)
    rules = ConductRules(
        {name: own.several(getattr(words, name), name) for name in _NAMES},
        {kind: own.several(harmful, "harm", kind) for kind, harmful in words.harm.items()},
        {what: own.amount(pattern, what) for what, pattern in words.amounts.items()},
        words.numbers,
        *(own.one(getattr(words, name), name) for name in _SINGLE),
    )
    own.several(words.dropped, "dropped")
    own.check()
    return rules


def dropped_patterns(data: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """Return the patterns of answers that a filter drops, each of which compiles.

    Raises:
        UserErrors: As of :func:`conduct_rules`, of these patterns alone.
    """
    words = _validated(data, file)
    own = _ConductPatterns(words, file)
    own.several(words.dropped, "dropped")
    own.check()
    return words.dropped


def _validated(data: Mapping[str, Any], file: Path) -> ConductWords:
    try:
        return ConductWords.model_validate(data)
    except ValidationError:
        return validate(ConductWords, *read_yaml(file), file)


class _ConductPatterns:
    """Compiles the patterns of a file, and remembers where one is broken."""

    def __init__(self, words: ConductWords, file: Path) -> None:
        self._file = file
        self._broken: dict[tuple[str | int, ...], str] = {}
        numbers = "|".join(sorted(map(re.escape, words.numbers), key=len, reverse=True))
        parts = {"machine": words.words.get("machine", "")}
        self.one(parts["machine"], "words", "machine")
        for name in _PARTS:
            self.one(getattr(words, name).replace("{machine}", parts["machine"]), name)
        self.check()  # what is filled into others would be told once for each of them
        self._parts = parts | {"medicine": words.medicine, "body": words.body}
        self._parts["number"] = (
            rf"{words.before_number}(\d+(?:[.,]\d+)?(?:\s?(?:-|–|~|to|or)\s?\d+)?|{numbers})"
        )

    def one(self, pattern: str, *place: str | int) -> re.Pattern[str]:
        """Return a pattern compiled, the words in braces filled in; case does not matter."""
        for name, part in getattr(self, "_parts", {}).items():
            pattern = pattern.replace(f"{{{name}}}", part)
        try:
            return re.compile(pattern, re.IGNORECASE)
        except (re.error, OverflowError) as error:
            self._broken[place] = f"bad pattern {shortened(pattern, 60)!r}: {error}"
        except RecursionError:
            self._broken[place] = f"bad pattern {shortened(pattern, 60)!r}: nested too deep"
        return re.compile("")

    def several(self, patterns: Sequence[str], *place: str) -> list[re.Pattern[str]]:
        """Return the patterns of a list."""
        return [self.one(pattern, *place, at) for at, pattern in enumerate(patterns)]

    def amount(self, pattern: str, what: str) -> re.Pattern[str]:
        """Return the pattern of an amount, which has to find a number."""
        if _NUMBER not in pattern:
            self._broken["amounts", what] = f"has no {_NUMBER} in it, which stands for the amount"
        return self.one(pattern, "amounts", what)

    def check(self) -> None:
        """Raise a UserErrors where a pattern is broken."""
        if not self._broken:
            return
        _, lines = read_yaml(self._file)
        raise UserErrors(
            UserError(
                f"{'.'.join(map(str, place))}: {what}",
                where=f"{self._file}:{line_of(lines, place)}",
                fix="mend this regular expression of Python's re",
            )
            for place, what in self._broken.items()
        )
