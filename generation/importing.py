"""Rows that people bring, read whole or not at all: every mistake of a file is told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from generation.formats import BadRow, Row, parse_row
from generation.pasted import read_rows
from workbench.errors import UserError, UserErrors, nearest
from workbench.persona import Persona
from workbench.records import Drop, Example, Origin, Preference

STAGE = "import"
MOST_ERRORS = 20
"""Mistakes that are told of one file; the rest is counted."""


@dataclass(frozen=True)
class Imported:
    """What an import kept and what it left out."""

    kept: list[Example] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)


def import_rows(
    path: Path, persona: Persona | None, *, topic: str = "", origin: Origin = "imported"
) -> Imported:
    """Read a JSONL file of Alpaca, chat or preference rows; shapes may be mixed.

    A chat's reply, rows in a code fence or amid prose, is read as well.

    Args:
        path: The file, UTF-8.
        persona: Names the topics that are allowed, and becomes a parent of every row.
        topic: Topic of the rows that name none.
        origin: Where the rows come from.

    Returns:
        The rows in their order. Exact repetitions (same prompt and same answers) are dropped.

    Raises:
        UserError: The file cannot be read, or rows are wrong: each with its line, up to
            :data:`MOST_ERRORS` at once. Nothing is imported then.
    """
    mistakes: list[UserError] = []
    result, seen = Imported(), dict[tuple[object, ...], str]()
    parents = (persona.record_id,) if persona else ()
    if topic:
        _check_topic(topic, persona, where="topic")
    for number, data in read_rows(path, mistakes):
        where = f"{path}:{number}"
        try:
            row = parse_row(data)
            _check_topic(row.topic, persona, where=where)
        except BadRow as error:
            mistakes.append(UserError(error.what, where=where, fix=error.fix))
            continue
        except UserError as error:
            mistakes.append(error)
            continue
        if mistakes:
            continue
        record = _record(row, row.topic or topic, f"{path.name}:{number}", parents, origin)
        first = seen.setdefault((row.prompt, row.answer, row.rejected), record.source)
        if first != record.source:
            result.dropped.append(_repetition(record, first))
        elif isinstance(record, Preference):
            result.preferences.append(record)
        else:
            result.kept.append(record)
    if mistakes:
        raise UserErrors(_first(mistakes, path))
    return result


def _record(
    row: Row, topic: str, source: str, parents: tuple[str, ...], origin: Origin
) -> Example | Preference:
    if row.rejected is None:
        return Example(
            prompt=row.prompt,
            answer=row.answer,
            topic=topic,
            origin=origin,
            source=source,
            parents=parents,
        )
    return Preference(
        prompt=row.prompt,
        chosen=row.answer,
        rejected=row.rejected,
        topic=topic,
        origin=origin,
        source=source,
        parents=parents,
    )


def _repetition(record: Example | Preference, first: str) -> Drop:
    return Drop(
        record=record.id,
        stage=STAGE,
        reason="exact_duplicate",
        detail=f"the same as {first}",
        source=record.source,
        parents=record.parents,
    )


def _check_topic(topic: str, persona: Persona | None, *, where: str) -> None:
    if persona and topic and topic not in persona.topics:
        fix = nearest(topic, persona.topics) or f"one of {', '.join(persona.topics)}"
        raise UserError(f"unknown topic '{topic}'", where=where, fix=fix)


def _first(mistakes: list[UserError], path: Path) -> list[UserError]:
    """Return the mistakes worth telling: one for the encoding, and not more than a screenful."""
    coded = [error for error in mistakes if "is not UTF-8" in error.what]
    told = [error for error in mistakes if error not in coded[1:]]
    if len(told) <= MOST_ERRORS:
        return told
    left = len(told) - MOST_ERRORS
    more = UserError(f"{left} more lines are wrong", where=str(path), fix="mend these first")
    return [*told[:MOST_ERRORS], more]
