"""Traits proposed from rows: marks that tell reviewed answers from the base model's own.

In: the texts of reviewed answers, and those of the base to the same questions. Out: rules as a
specification has them (phrases, openings, closings, lengths), each with how well it tells the two
apart on rows that it was not found on. People take or leave them; nothing is taken by itself.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from workbench.checks import LengthRule, Matches, Rule
from workbench.parts import Where, length, part

FEWEST = 10
"""Reviewed answers that are needed to find marks in one half and to try them on the other."""
MOST = 12
"""Proposals at most."""
_WORDS = 3
"""Longest phrase, in words."""
_SHARE = 0.25
"""Least share of the reviewed answers that a mark is found in."""
_PRECISION = 0.9
"""Least share of reviewed ones among the answers that have it, where it is looked for."""
_EDGE = re.compile(r"^\W+|\W+$")
_PLACES: tuple[Where, ...] = ("opening", "closing", "anywhere")
_RULES: TypeAdapter[Rule] = TypeAdapter(Rule)


class ProposedTrait(NamedTuple):
    """A rule, and how it does on held-out rows."""

    check: dict[str, Any]
    """As a specification has it: ``{"rule": "matches", …}``."""
    text: str
    """The phrase, or the range of the length."""
    precision: float | None
    """Of the held-out answers that pass, the share of reviewed ones; None where none pass."""
    recall: float
    """Of the held-out reviewed answers, the share that pass."""
    reviewed: int
    """Held-out reviewed answers."""
    base: int
    """Held-out answers of the base."""


def propose_traits(reviewed: Sequence[str], base: Sequence[str]) -> list[ProposedTrait]:
    """Return marks of the reviewed answers, those that tell them apart best on held-out rows first.

    Half of each side, by a hash of the text, is looked through; precision and recall are of the
    other half. No proposals below :data:`FEWEST` answers on either side.
    """
    if min(len(reviewed), len(base)) < FEWEST:
        return []
    seen, held = _halves(reviewed)
    seen_base, held_base = _halves(base)
    checks = [*_phrases(seen, seen_base), *_lengths(seen)]
    tried = [_tried(check, text, held, held_base) for check, text in checks]
    tried.sort(key=lambda one: -_f1(one))
    return list(_apart(tried))[:MOST]


def _halves(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    halves: tuple[list[str], list[str]] = ([], [])
    for text in texts:
        halves[hashlib.sha256(text.encode()).digest()[0] % 2].append(text)
    return halves


def _grams(text: str) -> set[str]:
    """Return the phrases of a text, their case folded, without marks at their ends."""
    words = text.casefold().split()
    grams = (
        _EDGE.sub("", " ".join(words[start : start + size]))
        for size in range(1, _WORDS + 1)
        for start in range(len(words) - size + 1)
    )
    return {gram for gram in grams if len(gram) > 1}


def _phrases(seen: Sequence[str], base: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    for where in _PLACES:
        ours = Counter(gram for text in seen for gram in _grams(part(text, where)))
        theirs = Counter(gram for text in base for gram in _grams(part(text, where)))
        for gram, count in ours.items():
            share, other = count / len(seen), theirs[gram] / max(len(base), 1)
            if share >= _SHARE and share / (share + other) >= _PRECISION:
                yield {"rule": "matches", "patterns": [_pattern(gram)], "where": where}, gram


def _pattern(gram: str) -> str:
    """Return a phrase as a pattern; Latin words are whole ones, Korean ones take endings."""
    words = r"\s+".join(re.escape(word) for word in gram.split())
    return rf"\b{words}\b" if gram.isascii() else words


def _lengths(seen: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    counts = sorted(length(text, "words") for text in seen)
    least, most = counts[len(counts) // 20], counts[-1 - len(counts) // 20]
    yield {"rule": "length", "min": least, "max": most, "unit": "words"}, f"{least}–{most}"


def _tried(
    check: dict[str, object], text: str, held: Sequence[str], base: Sequence[str]
) -> ProposedTrait:
    rule = _RULES.validate_python(check)
    assert isinstance(rule, Matches | LengthRule)
    own = sum(rule.passes(one) for one in held)
    # Of as many answers on either side: the base may have answered fewer.
    other = sum(rule.passes(one) for one in base) * len(held) / max(len(base), 1)
    precision = own / (own + other) if own + other else None
    recall = own / max(len(held), 1)
    return ProposedTrait(check, text, precision, recall, len(held), len(base))


def _f1(one: ProposedTrait) -> float:
    precision = one.precision or 0.0
    return 2 * precision * one.recall / (precision + one.recall) if precision + one.recall else 0.0


def _apart(tried: Sequence[ProposedTrait]) -> Iterator[ProposedTrait]:
    """Yield proposals, without those whose phrase is a part of a better one's, or the other way."""
    phrases: list[str] = []
    for one in tried:
        if (one.precision or 0) < _PRECISION or one.recall < _SHARE:
            continue
        if one.check["rule"] == "matches":
            if any(one.text in other or other in one.text for other in phrases):
                continue
            phrases.append(one.text)
        yield one
