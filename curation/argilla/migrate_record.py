"""What one record lacks at the target of a migration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workbench.errors import UserError

Counts = Mapping[str, "Moves"]


@dataclass
class Moves:
    """How many things of one kind a migration found and moved."""

    held: int = 0
    """At the source."""
    moved: int = 0
    """Sent by this run."""
    already: int = 0
    """At the target before, the same."""
    kept: int = 0
    """At the target before, changed there, and left so."""
    found: int = 0
    """Of those held, at the target afterwards."""

    @property
    def add_up(self) -> bool:
        """Whether all is accounted for and was found."""
        return self.moved + self.already + self.kept == self.held == self.found


@dataclass(frozen=True)
class Names:
    """What things of the source are called at the target, by their ids."""

    people: Mapping[str, str]
    questions: Mapping[str, str]


def key_of(record: Mapping[str, Any]) -> str:
    """Return what a record is known by on both sides; without a name, its id here."""
    return str(record["external_id"] or record["id"])


def lacking(
    record: Mapping[str, Any], same: Mapping[str, Any] | None, names: Names, counts: Counts
) -> dict[str, Any] | None:
    """Return the item of a bulk upsert that brings the target up to ``record``, or None.

    Args:
        record: At the source, with its responses, suggestions and vectors.
        same: The record at the target, None where there is none.
        names: Ids there.
        counts: Told of each part whether it is held, to be moved, there already, or kept as it is.

    Raises:
        UserError: The target has another record of this name.
    """
    counts["records"].held += 1
    given: dict[str, Any] = {}
    if same is None:
        counts["records"].moved += 1
        given["fields"] = record["fields"]
        if record["metadata"] is not None:
            given["metadata"] = record["metadata"]
    elif same["fields"] != record["fields"]:
        raise UserError(f"another record '{key_of(record)}' is there already")
    else:
        counts["records"].already += 1
    there = same or {}
    suggestions = [
        one
        for suggestion in record.get("suggestions") or ()
        if (one := _suggestion(suggestion, there, names, counts["suggestions"]))
    ]
    responses = [
        one
        for response in record.get("responses") or ()
        if (one := _response(response, there, names, counts["responses"]))
    ]
    vectors = _vectors(record, there, counts["vectors"])
    parts = {"suggestions": suggestions, "responses": responses, "vectors": vectors}
    given |= {name: part for name, part in parts.items() if part}
    return {"external_id": key_of(record), **given} if given else None


def _suggestion(
    mine: Mapping[str, Any], there: Mapping[str, Any], names: Names, count: Moves
) -> dict[str, Any] | None:
    count.held += 1
    question = names.questions[mine["question_id"]]
    wanted = {
        "question_id": question,
        **{key: mine[key] for key in ("value", "score", "agent", "type") if mine[key] is not None},
    }
    for other in there.get("suggestions") or ():
        if other["question_id"] == question:
            if all(other[key] == value for key, value in wanted.items()):
                count.already += 1
            else:
                count.kept += 1
            return None
    count.moved += 1
    return wanted


def _response(
    mine: Mapping[str, Any], there: Mapping[str, Any], names: Names, count: Moves
) -> dict[str, Any] | None:
    count.held += 1
    user = names.people[mine["user_id"]]
    content = (mine["status"], mine["values"] or {})
    for other in there.get("responses") or ():
        if other["user_id"] == user:
            if content == (other["status"], other["values"] or {}):
                count.already += 1
                return None
            if _time(mine) <= _time(other):  # people went on there
                count.kept += 1
                return None
    count.moved += 1
    return {"user_id": user, "status": content[0], "values": content[1]}


def _vectors(
    record: Mapping[str, Any], there: Mapping[str, Any], count: Moves
) -> dict[str, list[float]]:
    mine, other = record.get("vectors") or {}, there.get("vectors") or {}
    count.held += len(mine)
    count.already += sum(other.get(name) == value for name, value in mine.items())
    missing = {name: value for name, value in mine.items() if name not in other}
    count.moved += len(missing)
    count.kept += sum(name in other and other[name] != value for name, value in mine.items())
    return missing


def _time(response: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(response["updated_at"]).replace(tzinfo=None)  # both are in UTC
