"""Parts and lengths of an answer: its sentences, its opening, its closing, its words.

:class:`PhraseRule` is the base of rules that look at them: :mod:`workbench.checks` has those of any
language, a pack's ``checks.py`` its own.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import ClassVar, Literal

from workbench.values import Frozen

Where = Literal["anywhere", "opening", "closing"]
Unit = Literal["words", "characters", "sentences"]

SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])(?![。！？」』）])\s*|\n+")
WORD = re.compile(r"[㐀-鿿々]+|[ぁ-ゟ]+|[ァ-ヿー]+|[^\W㐀-鿿々ぁ-ヿ]+")
"""A run of letters; where no spaces part words, a run of one script, which is about a word."""
_LETTER = re.compile(r"[^\W\d_]")
_UNSPACED = re.compile(r"[㐀-鿿々ぁ-ヿ]")
"""Letters of scripts whose words no spaces part."""


def sentences(text: str) -> list[str]:
    """Return the sentences of ``text``.

    They end at . ! ? … before a space, at 。！？, or at a line break.
    """
    return [piece.strip() for piece in SENTENCE_END.split(text) if piece.strip()]


def part(text: str, where: Where) -> str:
    """Return the named part of ``text``.

    ``opening`` is the first sentence; ``closing`` the last sentence that holds a letter and all
    that follows it, so that closing emoji belong to it.
    """
    if where == "anywhere":
        return text
    pieces = sentences(text)
    if not pieces:
        return ""
    if where == "opening":
        return pieces[0]
    spoken = [index for index, piece in enumerate(pieces) if _LETTER.search(piece)]
    return " ".join(pieces[spoken[-1] if spoken else 0 :])


def length(text: str, unit: Unit) -> int:
    """Return the length of ``text`` in words, sentences, or characters without white space."""
    if unit == "words":
        return len(text.split())
    if unit == "sentences":
        return len([piece for piece in sentences(text) if _LETTER.search(piece)])
    return sum(not character.isspace() for character in text)


def split_words(text: str) -> list[str]:
    """Return what spaces part; where they part no words, the runs of one script between them."""
    return [
        word
        for piece in text.split()
        for word in (WORD.findall(piece) if _UNSPACED.search(piece) else (piece,))
    ]


class PhraseRule(Frozen):
    """A rule whose ``phrases(text)`` names the words that decided."""

    earns: ClassVar[bool]
    """Whether they earned the trait; else they lost it."""

    @abstractmethod
    def passes(self, text: str) -> bool:
        """Return whether ``text`` shows the trait."""

    @abstractmethod
    def phrases(self, text: str) -> list[str]:
        """Return the words of ``text`` that decided."""
