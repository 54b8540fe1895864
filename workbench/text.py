"""Text as it enters, made the same whatever file, keyboard or server it came from.

In: text and bytes from outside: imported rows, chat replies, endpoint answers, reviewers'
corrections, a persona's specification. Out: composed text (NFC) without marks that nobody sees,
and the charset that bytes were written in. Everything behind the border may compare, hash and
search texts as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    # Tags spell the flags of England, Scotland and Wales; elsewhere they only hide text.
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+|\U000e0001"
)
_JOINERS = "\u200c\u200d"
_PLAIN = r"\s!-~\u00a1-\u024f\u1100-\u11ff\u3000-\u30ff\u3130-\u318f\u4e00-\u9fff\uac00-\ud7ff"
"""Characters beside which a joiner says nothing: ours, and not those of emoji or of Persian."""
_IDLE_JOINERS = re.compile(
    f"(?:(?<=[{_PLAIN}])|^)[{_JOINERS}]+|[{_JOINERS}]+(?=[{_PLAIN}]|\\Z)", re.MULTILINE
)
_ANY = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0001-\U000e007f]"
)
MARKS = "\ufeff\u200b\u2060\u200e\u200f\u00ad"
"""Marks that stand before a line and say nothing; for ``str.strip``."""
Changes = Counter[str]
"""What was changed in texts: ``composed`` texts, and characters of the other kinds."""


def some_of(names: Sequence[str], most: int = 8) -> str:
    """Return the first names with commas between, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str) -> str:
    """Return ``1 row``, ``2 rows``: a count with its noun, an English one that takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def normalize(text: str, changes: Changes | None = None) -> str:
    """Return ``text`` composed (Unicode's NFC), without control and invisible characters.

    Line ends of every kind become ``\\n``; the separators U+2028 and U+2029 stay, and so do the
    joiners inside emoji and in scripts that need them. Normalizing twice changes nothing more. Lone
    surrogates are left, for others to refuse. ``changes`` counts what was changed.
    """
    if not _ANY.search(text) and unicodedata.is_normalized("NFC", text):
        return text
    counts: Changes = Counter() if changes is None else changes
    text, number = _LINE_ENDS.subn("\n", text)
    counts["line_ends"] += number
    for name, pattern in (("control", _CONTROLS), ("invisible", _INVISIBLE)):
        text, number = pattern.subn("", text)
        counts[name] += number
    composed = unicodedata.normalize("NFC", text)
    counts["composed"] += composed != text
    text, number = _IDLE_JOINERS.subn("", composed)
    counts["invisible"] += number
    return unicodedata.normalize("NFC", text) if number else text


def normalize_all(value: T, changes: Changes | None = None) -> T:
    """Return ``value`` with every text in its lists and mappings normalized, keys too."""
    result: Any = value
    if isinstance(value, str):
        result = normalize(value, changes)
    elif isinstance(value, Mapping):
        items = value.items()
        result = {normalize_all(k, changes): normalize_all(v, changes) for k, v in items}
    elif isinstance(value, list):
        result = [normalize_all(item, changes) for item in value]
    elif isinstance(value, tuple):
        result = tuple(normalize_all(item, changes) for item in value)
    return cast(T, result)


def changes_line(changes: Changes) -> str:
    """Return in words what was changed, or an empty string; line ends go without saying."""
    words = (
        ("composed", "{} texts composed (NFC)"),
        ("invisible", "{} invisible characters taken out"),
        ("control", "{} control characters taken out"),
    )
    return ", ".join(text.format(changes[name]) for name, text in words if changes[name])


def shortened(text: str, characters: int) -> str:
    """Return a text in one line, cut to so many characters where it is longer."""
    folded = " ".join(text.split())
    return folded if len(folded) <= characters else f"{folded[: characters - 1]}…"


def printable(text: str) -> str:
    """Return ``text`` with a question mark for each half of a Unicode character."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Decoded(NamedTuple):
    """Bytes as text."""

    text: str
    """Bytes that are no text of the charset are lone surrogates, as ``surrogateescape`` has it."""
    charset: str
    """Name of the charset for people, such as ``UTF-8`` or ``CP949``."""


_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CHARSETS = ("cp949", "cp1252", "cp1250", "cp1251", "cp932", "euc_jp", "gb18030", "big5")
"""What files are written in that are not in Unicode; more would only make guesses wilder."""
_SAMPLE = 1 << 20
"""Bytes by which a charset is guessed."""


def decode(raw: bytes) -> Decoded | None:
    """Return a file's bytes as text, in UTF-8 or in whatever charset they are in.

    UTF-16 and UTF-32 are known by their mark, or by their zeros. Korean text in CP949 is known by
    its syllables, since a short file is too little for a guess; all else charset-normalizer says.
    Text that is UTF-8 but for a few bytes keeps these as lone surrogates.

    Returns:
        None where no charset fits.
    """
    for mark, charset in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            name = charset.removesuffix("-sig").upper()
            try:
                return Decoded(raw.decode(charset), name)
            except UnicodeDecodeError:
                if name != "UTF-8":
                    return None  # one byte is lost, and all behind it is another text
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _other_charset(raw)
    return _zeros(raw) or Decoded(text, "UTF-8")


def _zeros(raw: bytes) -> Decoded | None:
    """Return UTF-16 text without a mark: where its letters are Latin, every other byte is zero."""
    head = raw[:_SAMPLE]
    if head.count(0) < len(head) / 4:
        return None
    charset = "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
    try:
        return Decoded(raw.decode(charset), "UTF-16")
    except UnicodeDecodeError:
        return None


def _other_charset(raw: bytes) -> Decoded | None:
    if utf16 := _zeros(raw):
        return utf16
    lenient = raw.decode("utf-8", "surrogateescape")
    wrong = sum("\udc80" <= character <= "\udcff" for character in lenient)
    letters = sum(character > "\x7f" for character in lenient)
    if wrong <= letters - wrong:
        # UTF-8 that was cut or put together badly: only the rows with such bytes are lost.
        return Decoded(lenient, "UTF-8")
    if korean := _korean(raw):
        return korean
    from charset_normalizer import from_bytes

    best = from_bytes(raw[:_SAMPLE], cp_isolation=list(_CHARSETS)).best()
    if best is None:
        return None
    try:
        return Decoded(raw.decode(best.encoding), best.encoding.upper().replace("_", "-"))
    except (UnicodeDecodeError, LookupError):
        return None


def _korean(raw: bytes) -> Decoded | None:
    """Return CP949 text: syllables almost all of which are among the 2350 common ones."""
    try:
        text = raw.decode("cp949")
    except UnicodeDecodeError:
        return None
    foreign = [character for character in text[:_SAMPLE] if character > "\x7f"]
    syllables = [character for character in foreign if "\uac00" <= character <= "\ud7a3"]
    common = sum(len(character.encode("euc_kr", "ignore")) == 2 for character in syllables)
    if 2 * len(syllables) < len(foreign) or common < 0.9 * len(syllables):
        return None
    return Decoded(text, "CP949")
