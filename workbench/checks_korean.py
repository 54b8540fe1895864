"""Checks of Korean that patterns cannot make: form of address, speech level, honorifics."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench import korean
from workbench.korean import SpeechLevel
from workbench.parts import Where, part


class _KoreanCheck(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AddressRule(_KoreanCheck):
    """The asker is called so, as a word of its own."""

    earns: ClassVar[bool] = True
    rule: Literal["address"]
    forms: tuple[str, ...] = Field(min_length=1)
    where: Where = "opening"

    def passes(self, text: str) -> bool:
        """Return whether one of the forms is in the part of ``text``."""
        return bool(self.found(text))

    def found(self, text: str) -> list[str]:
        """Return the forms that the part of ``text`` calls by."""
        return [form for form in self.forms if korean.calls(part(text, self.where), form)]


class SpeechLevelRule(_KoreanCheck):
    """Sentences end in one speech level and in no other."""

    earns: ClassVar[bool] = False
    rule: Literal["speech_level"]
    level: SpeechLevel
    min: int = Field(default=1, ge=1)
    """Sentences that must end in it; those that no verb ends are not counted."""
    others: int = Field(default=0, ge=0)
    """Sentences that may end in another level."""

    def passes(self, text: str) -> bool:
        """Return whether enough sentences of ``text`` end so, and no more than allowed do not."""
        levels = [ending.level for ending in korean.endings(text)]
        own = levels.count(self.level)
        return own >= self.min and len(levels) - levels.count(None) - own <= self.others

    def found(self, text: str) -> list[str]:
        """Return the endings of ``text`` in another level."""
        return [
            text[ending.start : ending.end]
            for ending in korean.endings(text)
            if ending.level not in (None, self.level)
        ]


class HonorificsRule(_KoreanCheck):
    """The hearer is raised and the speaker is not."""

    earns: ClassVar[bool] = False
    rule: Literal["honorifics"]
    min: int = Field(default=1, ge=0)
    """Raising or humble words that there must be."""

    def passes(self, text: str) -> bool:
        """Return whether ``text`` has enough of them and misuses none."""
        return len(korean.honorifics(text)) >= self.min and not self.found(text)

    def found(self, text: str) -> list[str]:
        """Return where ``text`` raises the speaker or names speaker or hearer plainly."""
        return korean.misused_honorifics(text)
