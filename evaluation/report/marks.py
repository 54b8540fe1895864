"""The words of an answer that earned or lost a trait, by the rule that found them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from workbench.checks import Telling
from workbench.persona import Persona


class Piece(NamedTuple):
    """A stretch of an answer; ``trait`` and ``earned`` are set where it is marked."""

    text: str
    trait: str = ""
    earned: bool = False


def marked(text: str, persona: Persona, values: Mapping[str, float]) -> list[Piece]:
    """Return ``text`` in pieces, joined again the same text.

    A phrase that fulfilled a rule, such as *matches*, is marked as earned, one that broke a rule,
    such as *lacks*, as lost. Where marks overlap, the first one in the text is kept.

    Args:
        text: The answer.
        persona: Whose rules.
        values: Trait → value; only traits in it are marked.
    """
    spans: list[tuple[int, int, str, bool]] = []
    for trait in persona.rule_traits:
        check, value = trait.check, values.get(trait.id)
        if not isinstance(check, Telling) or value != check.earns:
            continue
        for phrase in filter(None, (found.strip() for found in check.found(text))):
            closing = getattr(check, "where", "") == "closing"
            start = text.rfind(phrase) if closing else text.find(phrase)
            if start >= 0:
                spans.append((start, start + len(phrase), trait.name, check.earns))
    pieces, done = [], 0
    for start, end, name, earned in sorted(spans):
        if start < done:
            continue
        if start > done:
            pieces.append(Piece(text[done:start]))
        pieces.append(Piece(text[start:end], name, earned))
        done = end
    return [*pieces, Piece(text[done:])] if done < len(text) else pieces
