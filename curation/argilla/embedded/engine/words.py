"""How text becomes words, for what is stored and for what is asked alike.

Words follow Unicode's rules closely enough for search (UAX 29, what Elasticsearch's standard
analyzer uses): lower case, cut at spaces and punctuation, an apostrophe and a decimal point stay
inside. Two things are kinder than there. Korean, Chinese and Japanese are stored by character and
asked as a sequence, so that a noun is found whatever particle is glued to it; and an emoji is a
word of its own, whatever its skin tone.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

_CJK = "ᄀ-ᇿ぀-ヿ㄰-㆏㐀-䶿一-鿿가-힣豈-﫿\U00020000-\U0003ffff"
_EMOJI = "←-⇿⌀-➿⬀-⯿\U0001f000-\U0001f3fa\U0001f400-\U0001faff"
_PIECES = re.compile(
    rf"(?P<cjk>[{_CJK}]+)|(?P<emoji>[{_EMOJI}])"
    rf"|(?P<word>[^\W{_CJK}]+(?:(?:'|(?<=\d)[.,](?=\d))[^\W{_CJK}]+)*)"
)
_GAP = "¦"  # stands between two runs of CJK, so that no sequence is found across a space


def units(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the searchable units of ``text``: a word, an emoji, or the characters of a CJK run."""
    folded = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    for piece in _PIECES.finditer(folded):
        yield tuple(piece.group()) if piece.lastgroup == "cjk" else (piece.group(),)


def words(text: str) -> str:
    """Return the words of ``text``, parted by spaces, as the word table stores them."""
    stored: list[str] = []
    for unit in units(text):
        if stored and _is_cjk(unit[0]) and _is_cjk(stored[-1]):
            stored.append(_GAP)
        stored.extend(unit)
    return " ".join(stored)


def field_words(kind: str, value: str | None) -> str:
    """Return the words of one field of a record.

    Args:
        kind: The field's type: ``text``, ``chat`` or ``custom``.
        value: A text field's text, or the JSON of a chat's messages or of a custom value.
    """
    if value is None:
        return ""
    if kind == "text":
        return words(value)
    data = json.loads(value) if value[:1] in "[{" else value
    if kind == "chat":
        contents = [str(message.get("content", "")) for message in data]
        roles = dict.fromkeys(str(message.get("role", "")) for message in data)
        return words("\n".join([*contents, *roles]))
    return words("\n".join(_leaves(data)))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)


def _is_cjk(word: str) -> bool:
    return re.fullmatch(f"[{_CJK}]", word) is not None
