"""Korean by its morphemes: speech level, honorifics, form of address (library: kiwipiepy).

A text comes in; its endings, its honorifics and the words that misuse them come out. The rules that
a persona's traits may name and that no pattern can be stand at the end; :mod:`workbench.checks`
lists them beside the others.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import Field

from workbench.parts import PhraseRule, Where, part

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

SpeechLevel = Literal["haeyo", "hapsyo", "banmal"]
"""해요체, 합쇼체, and 반말 (해체 and 해라체)."""

_QUOTE = re.compile(r"[\"“‘'「『]([^\"”’'」』\n]*)[\"”’'」』]")
_LINE = re.compile(r"[^\n]+")
_QUOTED_END = re.compile(r"[.!?…]")
_HAPSYO = re.compile(r"[ᆸ습읍십]|시오$|소서$")
_CLOSERS = frozenset({"SF", "SS", "SSO", "SSC", "SE", "SO", "SW", "W_EMOJI", "W_EMOTICON"})
_HONOURING = frozenset(
    {"계시", "드시", "잡수", "주무시", "편찮", "돌아가시", "모시", "뵙", "뵈", "여쭈", "여쭙"}
)
_PLAIN_YOU = frozenset({"너", "자네", "당신", "너희"})
_POLITE = ("요", "죠", "니다", "니까")


class Morpheme(NamedTuple):
    """A morpheme, its part of speech in the Sejong tag set, and where it stands in the text."""

    form: str
    tag: str
    start: int
    end: int


class Ending(NamedTuple):
    """How one sentence ends."""

    level: SpeechLevel | None
    """None where no verb ends it: a call, a heading, a noun, a word left hanging."""
    start: int
    end: int
    """Where the last word stands in the text, from the space before it to its ending."""


@lru_cache(maxsize=1)
def _analyser() -> Kiwi:
    from kiwipiepy import Kiwi

    # One thread: whole texts are too short to share out.
    return Kiwi(num_workers=1)


@lru_cache(maxsize=4096)
def loss(text: str) -> float:
    """Return how unlikely a text is to kiwipiepy's own language model, in nats a morpheme.

    Reviewed answers lie at 5.1 to 6.2, their words in random order at 6.4 to 7.7. An empty text
    has no morpheme: 0.0.
    """
    tokens, score = _analyser().analyze(text)[0]
    return -score / len(tokens) if tokens else 0.0


@lru_cache(maxsize=4096)
def sentences_of(text: str) -> tuple[tuple[Morpheme, ...], ...]:
    """Return the morphemes of each sentence of ``text``.

    What stands in quotation marks ends no sentence; places are those of ``text`` all the same.
    """
    calm = _QUOTE.sub(lambda quote: _QUOTED_END.sub(" ", quote.group()), text)
    # A line break ends a sentence, which the analyser does not always hold to.
    lines = ((match.group(), match.start()) for match in _LINE.finditer(calm))
    return tuple(sentence for line, start in lines for sentence in _of_line(line, start))


def _of_line(line: str, start: int) -> list[tuple[Morpheme, ...]]:
    sentences: list[tuple[Morpheme, ...]] = []
    for sentence in _analyser().split_into_sents(line, return_tokens=True):
        own = tuple(
            Morpheme(t.form, t.tag, start + t.start, start + t.start + t.len)
            for t in sentence.tokens
        )
        if sentences and own and _goes_on(sentences[-1][-1]):
            own = sentences.pop() + own
        if own:
            sentences.append(own)
    return sentences


def _goes_on(last: Morpheme) -> bool:
    """Return whether a plain ending without a mark is but a clause, as in "걷기냐 뛰기냐 고민"."""
    return last.tag == "EF" and not last.form.endswith(_POLITE)


def endings(text: str) -> list[Ending]:
    """Return how each sentence of ``text`` ends, in order."""
    return [_ending(text, sentence) for sentence in sentences_of(text)]


def _ending(text: str, sentence: tuple[Morpheme, ...]) -> Ending:
    spoken = _without_call([m for m in sentence if not _closes(m)])
    if not spoken:
        return Ending(None, sentence[0].start, sentence[-1].end)
    last = spoken[-1]
    word = max(text.rfind(space, 0, last.end) for space in " \n") + 1
    return Ending(_level(last), word, last.end)


def _closes(m: Morpheme) -> bool:
    return m.tag in _CLOSERS or m.tag.startswith("W_")


def _without_call(spoken: list[Morpheme]) -> list[Morpheme]:
    """Leave out a call at the end, as in "괜찮아요, 회원님!"."""
    commas = [index for index, m in enumerate(spoken) if m.tag == "SP"]
    if not commas or commas[-1] == 0:
        return spoken
    before, after = spoken[: commas[-1]], spoken[commas[-1] + 1 :]
    called = all(m.tag[0] in "NX" for m in after)
    return before if called and before[-1].tag[0] == "E" else spoken


def _level(last: Morpheme) -> SpeechLevel | None:
    ends = last.tag[0] == "E" and not last.tag.startswith("ET")
    if (ends or last.tag == "JX") and last.form.endswith(("요", "죠")):
        return "haeyo"
    if not ends:
        return None
    # An ending that joins clauses and stops the sentence all the same, as in "먹고.", is 반말; so
    # is the note-taker's "함", which the analyser takes for a final ending.
    return "hapsyo" if last.tag == "EF" and _HAPSYO.search(last.form) else "banmal"


def honorifics(text: str) -> list[Morpheme]:
    """Return what raises the hearer or lowers the speaker: -시-, 드리다, 계시다, 님, 저."""
    return [m for sentence in sentences_of(text) for m in sentence if _honours(m, text)]


def _honours(m: Morpheme, text: str) -> bool:
    return (
        (m.tag == "EP" and m.form in ("시", "으시"))
        # 세요 is one ending to the analyser, and 드세요 a verb of its own.
        or (m.tag == "EF" and text[: m.end].endswith(("세요", "셔요")))
        or (m.tag == "XSN" and m.form == "님")
        or (m.tag[0] == "V" and (m.form in _HONOURING or m.form == "드리"))
        or (m.tag == "NP" and m.form in ("저", "제", "저희"))
    )


def misused_honorifics(text: str) -> list[str]:
    """Return where the speaker raises themselves or speaks plainly of self or hearer.

    These are ``-실게요`` (a promise is the speaker's own, and nobody raises themselves), ``내가``
    for the speaker, ``너`` and ``당신`` for the hearer. ``내`` and ``나는`` are left alone: the one
    is also anybody's own, the other also a form of 나다. Words in quotation marks are somebody
    else's and do not count.
    """
    misused = []
    quoted = [match.span() for match in _QUOTE.finditer(text)]
    for sentence in sentences_of(text):
        for index, m in enumerate(sentence):
            if any(start <= m.start < end for start, end in quoted):
                continue
            after = sentence[index + 1] if index + 1 < len(sentence) else None
            raised = m.tag == "EP" and m.form in ("시", "으시")
            if raised and after and after.tag == "EF" and after.form.endswith(("게요", "게")):
                misused.append(text[m.start : after.end])
            own = m.form == "나" and after is not None and (after.tag, after.form) == ("JKS", "가")
            if m.tag == "NP" and (own or m.form in _PLAIN_YOU):
                misused.append(text[m.start : m.end])
    return misused


def calls(text: str, form: str) -> bool:
    """Return whether ``text`` holds ``form`` as a word of its own, particles aside.

    ``회원님`` is in "회원님은" and not in "준회원님께" or "회원님들".
    """
    for sentence in sentences_of(text):
        for index, m in enumerate(sentence):
            if not text.startswith(form, m.start):
                continue
            end = m.start + len(form)
            before = sentence[index - 1] if index else None
            glued = before is not None and before.end == m.start and before.tag[0] in "NXM"
            after = next((n for n in sentence[index + 1 :] if n.start >= end), None)
            longer = after is not None and after.start == end and after.tag[0] in "NX"
            if not glued and not longer:
                return True
    return False


class AddressRule(PhraseRule):
    """The asker is called so, as a word of its own."""

    earns: ClassVar[bool] = True
    rule: Literal["address"]
    """Names the kind of check."""
    forms: tuple[str, ...] = Field(min_length=1)
    """What the asker is called, such as 회원님."""
    where: Where = "opening"
    """The part of the answer that is looked at."""

    def passes(self, text: str) -> bool:
        """Return whether one of the forms is in the part of ``text``."""
        return bool(self.phrases(text))

    def phrases(self, text: str) -> list[str]:
        """Return the forms that the part of ``text`` calls by."""
        return [form for form in self.forms if calls(part(text, self.where), form)]


class SpeechLevelRule(PhraseRule):
    """Sentences end in one speech level and in no other."""

    earns: ClassVar[bool] = False
    rule: Literal["speech_level"]
    """Names the kind of check."""
    level: SpeechLevel
    """The level that sentences end in."""
    min: int = Field(default=1, ge=1)
    """Sentences that must end in it; those that no verb ends are not counted."""
    others: int = Field(default=0, ge=0)
    """Sentences that may end in another level."""

    def passes(self, text: str) -> bool:
        """Return whether enough sentences of ``text`` end so, and no more than allowed do not."""
        levels = [ending.level for ending in endings(text)]
        own = levels.count(self.level)
        return own >= self.min and len(levels) - levels.count(None) - own <= self.others

    def phrases(self, text: str) -> list[str]:
        """Return the endings of ``text`` in another level."""
        return [
            text[ending.start : ending.end]
            for ending in endings(text)
            if ending.level not in (None, self.level)
        ]


class HonorificsRule(PhraseRule):
    """The hearer is raised and the speaker is not."""

    earns: ClassVar[bool] = False
    rule: Literal["honorifics"]
    """Names the kind of check."""
    min: int = Field(default=1, ge=0)
    """Raising or humble words that there must be."""

    def passes(self, text: str) -> bool:
        """Return whether ``text`` has enough of them and misuses none."""
        return len(honorifics(text)) >= self.min and not self.phrases(text)

    def phrases(self, text: str) -> list[str]:
        """Return where ``text`` raises the speaker or names speaker or hearer plainly."""
        return misused_honorifics(text)


RULES: dict[str, type[PhraseRule]] = {
    "address": AddressRule,
    "speech_level": SpeechLevelRule,
    "honorifics": HonorificsRule,
}
"""Name in a trait's ``check`` → its model."""
