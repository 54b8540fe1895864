"""The checks that a persona's traits name: rules where a rule can, else a question for a judge.

Filters, suggestions, rewards and scorers all use these, so that a trait means one thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from workbench.language.packs import own_rules
from workbench.parts import PhraseRule, Unit, Where, length, part
from workbench.parts import sentences as sentences
from workbench.text import normalize
from workbench.values import Frozen


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return ``pattern`` compiled, case-insensitive."""
    return re.compile(pattern, re.IGNORECASE)


def _compiles(pattern: str) -> str:
    pattern = normalize(pattern)
    try:
        compiled(pattern)
    except (re.error, OverflowError) as error:
        raise ValueError(f"bad pattern {pattern!r}: {error}") from None
    except RecursionError:
        raise ValueError(f"bad pattern {pattern[:40]!r}…: nested too deep") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression of Python's ``re``, composed as all text is; case does not matter."""


class _Patterns(PhraseRule):
    patterns: tuple[Pattern, ...] = Field(min_length=1)
    """Regular expressions; case does not matter."""
    where: Where = "anywhere"
    """The part of the answer that is looked at."""

    def phrases(self, text: str) -> list[str]:
        """Return the text that each matching pattern matched first."""
        target = part(text, self.where)
        matches = (compiled(pattern).search(target) for pattern in self.patterns)
        return [match.group(0) for match in matches if match]


class Matches(_Patterns):
    """At least ``min`` of the patterns match."""

    earns: ClassVar[bool] = True
    rule: Literal["matches"]
    """Names the kind of check."""
    min: int = Field(default=1, ge=1)
    """How many of the patterns have to match."""

    @model_validator(mode="after")
    def _reachable(self) -> Matches:
        if self.min > len(self.patterns):
            raise ValueError(f"min {self.min} is more than the {len(self.patterns)} patterns")
        return self

    def passes(self, text: str) -> bool:
        """Return whether enough patterns match ``text``."""
        return len(self.phrases(text)) >= self.min


class Lacks(_Patterns):
    """None of the patterns matches."""

    earns: ClassVar[bool] = False
    rule: Literal["lacks"]
    """Names the kind of check."""

    def passes(self, text: str) -> bool:
        """Return whether no pattern matches ``text``."""
        return not self.phrases(text)


class CountRange(Frozen):
    """A closed range of a count."""

    min: int = Field(default=0, ge=0)
    """The least that passes."""
    max: int = Field(ge=0)
    """The most that passes."""

    @model_validator(mode="after")
    def _ordered(self) -> CountRange:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


class EmojiHabit(CountRange):
    """How many emoji, and where."""

    where: Where = "anywhere"
    """The part of the answer that is looked at."""

    def passes(self, text: str) -> bool:
        """Return whether the number of emoji in the part is in range."""
        from emoji import emoji_count

        return self.min <= emoji_count(part(text, self.where)) <= self.max


class LengthRange(CountRange):
    """How long an answer is."""

    unit: Unit = "words"
    """What is counted."""

    def passes(self, text: str) -> bool:
        """Return whether the length of ``text`` is in range."""
        return self.min <= length(text, self.unit) <= self.max


class EmojiRule(EmojiHabit):
    """The emoji habit as a check."""

    rule: Literal["emoji"]
    """Names the kind of check."""


class LengthRule(LengthRange):
    """The length as a check."""

    rule: Literal["length"]
    """Names the kind of check."""


class Judge(Frozen):
    """A yes/no question about one answer, for a judge model."""

    judge: str = Field(min_length=1)
    """The question, answered yes where the answer shows the trait."""
    rubric: str = ""
    """What counts as a yes and what as a no, where the question alone leaves it open."""


KINDS: Mapping[str, type[Frozen]] = {
    "matches": Matches,
    "lacks": Lacks,
    "emoji": EmojiRule,
    "length": LengthRule,
    **own_rules(),
}
"""Name of a rule → its model: of any language, then those of single packs."""


def _kind(value: object) -> str:
    """Return the tag of a check, so that its mistakes are told for that kind alone."""
    if isinstance(value, Judge) or (isinstance(value, dict) and "judge" in value):
        return "judge"
    return str(value.get("rule", "")) if isinstance(value, dict) else getattr(value, "rule", "")


if TYPE_CHECKING:
    Rule = EmojiRule | LengthRule | Matches | Lacks | PhraseRule
    Check = Rule | Judge
else:
    Rule = Union[tuple(KINDS.values())]  # noqa: UP007 - its members are known at run time
    Check = Annotated[
        Union[
            (
                *(Annotated[model, Tag(name)] for name, model in KINDS.items()),
                Annotated[Judge, Tag("judge")],
            )
        ],
        Discriminator(
            _kind,
            custom_error_type="unknown_check",
            custom_error_message=f"needs 'rule: {'|'.join(KINDS)}' or 'judge: <question>'",
        ),
    ]
    """What a trait's ``check`` may be."""
