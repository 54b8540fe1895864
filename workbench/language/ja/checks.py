"""Japanese by the ends of its sentences: polite or plain style, and how somebody is called.

A text comes in; how each sentence ends and which calls stand alone come out. Polite style (敬体,
です・ます) shows in the last verb or copula, behind which particles, marks and emoji may stand; no
analyser is needed. What a quotation holds is somebody else's, and a sentence that ends with a noun
(体言止め) or a set greeting has no style. :mod:`workbench.checks` lists the rules beside the
others.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from workbench.parts import PhraseRule, Where, part, sentences

Style = Literal["polite", "plain"]
"""敬体 (です・ます) and 常体 (だ・である, dictionary forms)."""

_QUOTE = re.compile(r"「[^「」\n]*」|『[^『』\n]*』|\"[^\"\n]*\"|“[^”\n]*”")
_TAIL = re.compile(r"[^ぁ-ゟァ-ヺー㐀-鿿々A-Za-z0-9０-９]+$")
"""Marks, emoji and brackets behind the last word."""
_ASIDE = re.compile(r"（[^（）\n]*）")
_PARTICLES = re.compile(r"(?:よね|よ|ね|か|わ|ぞ|ぜ|さ|の|けど|けれど|が|から|し|ので)ー?$")
_POLITE = re.compile(
    r"(?:です|でした|でしょう|ます|ました|ません|ましょう|ください|下さい|ませ|ございます)$"
)
_PLAIN = re.compile(
    r"(?:だ|だった|だろう|である|じゃない|ない|なかった|たい|しい|[うくぐすつぬぶむるたいろけせてえめべ]"
    r"|[ぁ-ん]れ|[っいきぎしえけせてねべめれ]て|[んい]で|ないで|するな|[うくすつぬむる]な|よう|おう)$"
)
_GREETING = re.compile(r"(?:おはよう|ありがとう|おめでとう|こんにちは|こんばんは|さようなら|さあ)$")
# がた alone: "会員さんがたくさん" is of one.
_PLURAL = re.compile(r"たち|達|がた(?=[はがをに、。！？]|$)|方|ら")


class SentenceEnd(NamedTuple):
    """How one sentence ends."""

    style: Style | None
    """None where no verb or copula ends it."""
    words: str
    """Its last characters, as they stand in the text."""


def sentence_ends(text: str) -> list[SentenceEnd]:
    """Return how each sentence of ``text`` ends, in order; those without a word are left out."""
    calm = _QUOTE.sub("〈〉", _ASIDE.sub("", text))
    ends = (_end(sentence) for sentence in sentences(calm))
    return [end for end in ends if end.words]


def _end(sentence: str) -> SentenceEnd:
    bare = _TAIL.sub("", sentence)
    words = bare[-8:]
    if _GREETING.search(bare):
        return SentenceEnd(None, words)
    # Polite forms end in no particle; of plain ones the particle may be the ending's own letter.
    for shorter in (bare, stripped := _PARTICLES.sub("", bare), _PARTICLES.sub("", stripped)):
        if _POLITE.search(shorter):
            return SentenceEnd("polite", words)
    plain = _PLAIN.search(bare) or _PLAIN.search(stripped)
    return SentenceEnd("plain" if plain else None, words)


def calls(text: str, form: str) -> bool:
    """Return whether ``text`` calls somebody ``form``, as a word of its own.

    ``会員さん`` is in "会員さん、" and "会員さんは", and not in "準会員さん" or "会員さんたち".
    """
    for match in re.finditer(re.escape(form), text):
        before, after = text[: match.start()][-1:], text[match.end() :]
        longer = re.match(r"[㐀-鿿々]", form) and re.match(r"[㐀-鿿々]", before)
        if not longer and not _PLURAL.match(after):
            return True
    return False


class CallsByRule(PhraseRule):
    """The asker is called so, as a word of its own."""

    earns: ClassVar[bool] = True
    rule: Literal["calls_by"]
    """Names the kind of check."""
    forms: tuple[str, ...] = Field(min_length=1)
    """What the asker is called, with さん, 様 or what belongs to it, such as 会員さん."""
    where: Where = "opening"
    """The part of the answer that is looked at."""

    def passes(self, text: str) -> bool:
        """Return whether one of the forms is in the part of ``text``."""
        return bool(self.phrases(text))

    def phrases(self, text: str) -> list[str]:
        """Return the forms that the part of ``text`` calls by."""
        return [form for form in self.forms if calls(part(text, self.where), form)]


class PolitenessRule(PhraseRule):
    """Sentences end in one style and in no other."""

    earns: ClassVar[bool] = False
    rule: Literal["politeness"]
    """Names the kind of check."""
    level: Style
    """The style that sentences end in."""
    min: int = Field(default=1, ge=1)
    """Sentences that must end in it; those that end with a noun are not counted."""
    others: int = Field(default=0, ge=0)
    """Sentences that may end in the other style."""

    def passes(self, text: str) -> bool:
        """Return whether enough sentences of ``text`` end so, and no more than allowed do not."""
        styles = [end.style for end in sentence_ends(text)]
        own = styles.count(self.level)
        return own >= self.min and len(styles) - styles.count(None) - own <= self.others

    def phrases(self, text: str) -> list[str]:
        """Return the ends of sentences in the other style."""
        return [end.words for end in sentence_ends(text) if end.style not in (None, self.level)]


RULES: dict[str, type[PhraseRule]] = {"calls_by": CallsByRule, "politeness": PolitenessRule}
"""Name in a trait's ``check`` → its model."""
