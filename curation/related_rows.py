"""What makes two rows kin, so that they may not stand on two sides: one meaning everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from workbench.records import Row

SIMILARITY = 0.6
"""Similarity of two questions from which they are siblings, whatever their topic."""
FEWEST_CHARACTERS = 20
"""Length from which one turn of a longer conversation is compared by itself."""
_RECORD = re.compile(r"(?:ex|pf)-[0-9a-f]{16}")
_SPACE = re.compile(r"\s+")


def record_ids(values: Iterable[object]) -> list[str]:
    """Return those of ``values`` that are ids of examples or preferences.

    Others are shared by rows that are not kin: a persona's, a reviewer's, a number.
    """
    return [value for value in values if isinstance(value, str) and _RECORD.fullmatch(value)]


def questions(turns: Sequence[str]) -> tuple[str, ...]:
    """Return the texts by which a conversation is compared, case and spaces folded.

    All that the user says, and each of several turns that is long enough to be a question of its
    own: a chat may open with the question that stands alone in another file.
    """
    folded = [text for turn in turns if (text := _SPACE.sub(" ", turn).strip().casefold())]
    whole = "\n".join(folded)
    alone = [text for text in folded if len(text) >= FEWEST_CHARACTERS]
    return tuple(dict.fromkeys([whole, *alone])) if whole else ()


def questions_of(row: Row) -> tuple[str, ...]:
    """Return the texts by which a row of ours is compared."""
    return questions([turn.content for turn in row.prompt if turn.role == "user"])
