"""Rules that tell whether an answer keeps to the form that its prompt asked for.

In: an answer and a :class:`Constraint` of ``datasets/instructions``, whose README says in words
what each kind asks for. Out: whether the answer keeps it. :mod:`evaluation.instructions` calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from pydantic import Field, model_validator

from workbench.language import DEFAULT, load_pack
from workbench.language.packs import known_packs
from workbench.persona import Language
from workbench.values import Frozen

_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_EDGES = " \t\n.!?,\"'“”‘’*`"


class Constraint(Frozen):
    """One thing that a prompt asks of the form of its answer, with just the kind's parameters."""

    kind: str
    min: float = Field(default=0, ge=0)
    max: float = Field(default=float("inf"), ge=0)
    count: int = Field(default=0, ge=0)
    text: str = ""
    texts: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    word: str = ""
    words: tuple[str, ...] = ()
    letter: str = ""
    letters: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    language: Language = DEFAULT
    open: str = ""
    close: str = ""
    parts: int = 0
    columns: int = 0
    rows: int = 0

    @model_validator(mode="after")
    def _parameters(self) -> Constraint:
        if self.kind not in CHECKS:
            raise ValueError(f"there is no kind '{self.kind}'")
        parameters = self.model_fields_set - {"kind"}
        wanted = CHECKS[self.kind].parameters
        if parameters != wanted:
            names = ", ".join(sorted(wanted)) or "no parameter"
            raise ValueError(f"'{self.kind}' takes {names}")
        return self

    def passes(self, answer: str) -> bool:
        """Return whether an answer keeps to it."""
        return CHECKS[self.kind].keeps(answer, self)


def words(text: str) -> list[str]:
    """Return what white space separates and holds a letter or a digit."""
    return [part for part in text.split() if any(c.isalnum() for c in part)]


def sentences(text: str) -> list[str]:
    """Return the sentences: they end at ``.``, ``!``, ``?``, ``…`` or a line's end."""
    parts = re.split(r"(?<=[.!?…])[\"'”’)]*\s+|\n+", text.strip())
    return [part for part in parts if any(c.isalnum() for c in part)]


def lines(text: str) -> list[str]:
    """Return the lines that are not empty, without the white space around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def paragraphs(text: str) -> list[str]:
    """Return what empty lines part."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def count(text: str, phrase: str) -> int:
    """Count a phrase, case aside; no Latin letter or digit touches an edge that is one."""
    left = r"(?<![A-Za-z0-9])" if re.match(r"[A-Za-z0-9]", phrase) else ""
    right = r"(?![A-Za-z0-9])" if re.search(r"[A-Za-z0-9]$", phrase) else ""
    return len(re.findall(left + re.escape(phrase) + right, text.replace("’", "'"), re.I))


def _letters(text: str) -> int:
    return len("".join(text.split()))


def _bare(text: str) -> str:
    return text.strip(_EDGES).casefold()


def _parsed(text: str) -> object:
    """Return the JSON of an answer, a code fence around it aside; None where it is none."""
    inner = re.sub(r"^```\w*\n|\n?```$", "", text.strip())
    try:
        value: object = json.loads(inner)
    except ValueError:
        return None
    return value


def _has_keys(text: str, check: Constraint) -> bool:
    value = _parsed(text)
    return isinstance(value, dict) and set(value) == set(check.keys)


def _has_items(text: str, check: Constraint) -> bool:
    value = _parsed(text)
    return isinstance(value, list) and len(value) == check.count


def _number(text: str, check: Constraint) -> bool:
    digits = text.strip()
    return bool(re.fullmatch(r"[0-9]+", digits)) and check.min <= int(digits) <= check.max


def _ascending(text: str, phrases: Sequence[str]) -> bool:
    places = [text.casefold().find(phrase.casefold()) for phrase in phrases]
    return -1 not in places and places == sorted(places)


def _table(text: str, check: Constraint) -> bool:
    rows = [line.strip("|").split("|") for line in lines(text) if line.startswith("|")]
    data = [row for row in rows if any(cell.strip(" -:") for cell in row)]
    return len(data) == check.rows + 1 and all(len(row) == check.columns for row in rows)


def _numbered(text: str, check: Constraint) -> bool:
    numbers = [int(n) for n in re.findall(r"^\s*(\d+)[.)]\s", text, re.M)]
    return numbers == list(range(1, check.count + 1))


def _separated(text: str, check: Constraint) -> bool:
    parts = text.split(check.text)
    return len(parts) == check.parts and all(part.strip() for part in parts)


def _bullets(text: str) -> int:
    return sum(bool(re.match(r"[-*•]\s", line)) for line in lines(text))


def _titled(text: str, check: Constraint) -> bool:
    first, *rest = lines(text) or [""]
    return bool(rest) and first.startswith(check.open) and first.endswith(check.close)


def _language(text: str, check: Constraint) -> bool:
    pack = load_pack(check.language)
    letters = [c for c in text if c.isalpha()]
    own = sum(bool(re.match(pack.letters, c)) for c in letters)
    return own >= pack.least_letters * max(len(letters), 1)


@cache
def _yes_or_no() -> frozenset[str]:
    return frozenset(word for pack in known_packs().values() for word in (*pack.yes, *pack.no))


def _starts(text: str, start: str) -> bool:
    return text.strip().casefold().startswith(start.casefold())


def _sorted_lines(text: str) -> bool:
    folded = [line.casefold() for line in lines(text)]
    return folded == sorted(folded)


class _Rule:
    """A kind of constraint: the parameters that it takes, and its rule.

    An empty answer keeps to nothing: silence is no way to leave out commas.
    """

    def __init__(self, rule: Callable[[str, Constraint], bool], *parameters: str) -> None:
        self.rule, self.parameters = rule, frozenset(parameters)

    def keeps(self, answer: str, check: Constraint) -> bool:
        """Return whether an answer keeps to a constraint of this kind."""
        return bool(answer.strip()) and self.rule(answer, check)


CHECKS: Mapping[str, _Rule] = {
    "max_words": _Rule(lambda text, check: 0 < len(words(text)) <= check.max, "max"),
    "min_words": _Rule(lambda text, check: len(words(text)) >= check.min, "min"),
    "exact_words": _Rule(lambda text, check: len(words(text)) == check.count, "count"),
    "max_characters": _Rule(lambda text, check: _letters(text) <= check.max, "max"),
    "min_characters": _Rule(lambda text, check: _letters(text) >= check.min, "min"),
    "exact_sentences": _Rule(lambda text, check: len(sentences(text)) == check.count, "count"),
    "exact_lines": _Rule(lambda text, check: len(lines(text)) == check.count, "count"),
    "exact_paragraphs": _Rule(lambda text, check: len(paragraphs(text)) == check.count, "count"),
    "exact_bullets": _Rule(lambda text, check: _bullets(text) == check.count, "count"),
    "numbered_list": _Rule(_numbered, "count"),
    "each_line_starts_with": _Rule(
        lambda text, check: all(_starts(line, check.text) for line in lines(text)), "text"
    ),
    "each_line_max_words": _Rule(
        lambda text, check: all(len(words(line)) <= check.max for line in lines(text)), "max"
    ),
    "acrostic": _Rule(
        lambda text, check: (
            [line[0].casefold() for line in lines(text)]
            == [letter.casefold() for letter in check.letters]
        ),
        "letters",
    ),
    "alphabetical_lines": _Rule(lambda text, _: _sorted_lines(text)),
    "starts_with": _Rule(lambda text, check: _starts(text, check.text), "text"),
    "ends_with": _Rule(
        lambda text, check: text.strip().casefold().endswith(check.text.casefold()), "text"
    ),
    "each_sentence_ends_with": _Rule(
        lambda text, check: all(
            part.rstrip(_EDGES + "…").endswith(check.texts) for part in sentences(text)
        ),
        "texts",
    ),
    "contains_all": _Rule(
        lambda text, check: all(count(text, phrase) for phrase in check.phrases), "phrases"
    ),
    "contains_none": _Rule(
        lambda text, check: not any(count(text, phrase) for phrase in check.phrases), "phrases"
    ),
    "exact_count_of_word": _Rule(
        lambda text, check: count(text, check.word) == check.count, "word", "count"
    ),
    "order_of_words": _Rule(lambda text, check: _ascending(text, check.words), "words"),
    "no_letter": _Rule(
        lambda text, check: check.letter.casefold() not in text.casefold(), "letter"
    ),
    "json_keys": _Rule(_has_keys, "keys"),
    "json_list": _Rule(_has_items, "count"),
    "all_lowercase": _Rule(lambda text, _: text.islower()),
    "all_uppercase": _Rule(lambda text, _: text.isupper()),
    "no_commas": _Rule(lambda text, _: "," not in text),
    "no_digits": _Rule(lambda text, _: not re.search(r"\d", text)),
    "digits_only": _Rule(_number, "min", "max"),
    "one_word_choice": _Rule(
        lambda text, check: _bare(text) in {choice.casefold() for choice in check.choices},
        "choices",
    ),
    "yes_no": _Rule(lambda text, _: _bare(text) in _yes_or_no()),
    "language": _Rule(_language, "language"),
    "no_latin": _Rule(lambda text, _: not re.search(r"[A-Za-z]", text)),
    "postscript": _Rule(
        lambda text, check: len(lines(text)) > 1 and lines(text)[-1].startswith(check.text), "text"
    ),
    "title_in_brackets": _Rule(_titled, "open", "close"),
    "quoted": _Rule(lambda text, _: bool(re.fullmatch(r"[\"“][^\"“”]+[\"”]", text.strip()))),
    "separator": _Rule(_separated, "text", "parts"),
    "table_columns": _Rule(_table, "columns", "rows"),
    "placeholders": _Rule(
        lambda text, check: len(re.findall(r"\[[^\[\]\n]+\]", text)) == check.count, "count"
    ),
    "exact_questions": _Rule(lambda text, check: text.count("?") == check.count, "count"),
    "exact_emoji": _Rule(lambda text, check: len(_EMOJI.findall(text)) == check.count, "count"),
}
"""Kind of constraint → its rule; ``datasets/instructions`` uses no other."""


def failed(answer: str, checks: Sequence[Constraint]) -> tuple[str, ...]:
    """Return the kinds of the constraints that an answer does not keep to."""
    return tuple(check.kind for check in checks if not check.passes(answer))
