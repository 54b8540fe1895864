"""One dataset of a migration: its settings, then its records with all that hangs on them.

Only what the target lacks is sent, so a migration that broke off goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from curation.argilla.client import Json, all_records, items, post, put
from workbench.console import track
from workbench.errors import UserError

if TYPE_CHECKING:
    from argilla import Argilla


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
    changed: int = 0
    """At the target before, changed there, and left so."""
    arrived: int = 0
    """Of those held, at the target afterwards."""

    @property
    def add_up(self) -> bool:
        """Whether all is accounted for and has arrived."""
        return self.moved + self.already + self.changed == self.held == self.arrived


@dataclass(frozen=True)
class Names:
    """What things of the source are called at the target, by their ids."""

    people: Mapping[str, str]
    questions: Mapping[str, str]


def key_of(record: Json) -> str:
    """Return what a record is known by on both sides; without a name, its id here."""
    return str(record["external_id"] or record["id"])


def lacking(record: Json, same: Json | None, names: Names, counts: Counts) -> Json | None:
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
    item: Json = {}
    if same is None:
        counts["records"].moved += 1
        item["fields"] = record["fields"]
        if record["metadata"] is not None:
            item["metadata"] = record["metadata"]
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
    item |= {name: part for name, part in parts.items() if part}
    return {"external_id": key_of(record), **item} if item else None


def _suggestion(mine: Json, there: Json, names: Names, count: Moves) -> Json | None:
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
                count.changed += 1
            return None
    count.moved += 1
    return wanted


def _response(mine: Json, there: Json, names: Names, count: Moves) -> Json | None:
    count.held += 1
    user = names.people[mine["user_id"]]
    content = (mine["status"], mine["values"] or {})
    for other in there.get("responses") or ():
        if other["user_id"] == user:
            if content == (other["status"], other["values"] or {}):
                count.already += 1
                return None
            if _time(mine) <= _time(other):  # people went on there
                count.changed += 1
                return None
    count.moved += 1
    return {"user_id": user, "status": content[0], "values": content[1]}


def _vectors(record: Json, there: Json, count: Moves) -> dict[str, list[float]]:
    mine, other = record.get("vectors") or {}, there.get("vectors") or {}
    count.held += len(mine)
    count.already += sum(other.get(name) == value for name, value in mine.items())
    missing = {name: value for name, value in mine.items() if name not in other}
    count.moved += len(missing)
    count.changed += sum(name in other and other[name] != value for name, value in mine.items())
    return missing


def _time(response: Json) -> datetime:
    return datetime.fromisoformat(response["updated_at"]).replace(tzinfo=None)  # both are in UTC


BATCH = 100
"""Records in one request, each with its responses and vectors; Argilla takes 500."""
_PARTS = {  # name in the API's path → path to list them
    "fields": "datasets/{}/fields",
    "questions": "datasets/{}/questions",
    "metadata-properties": "me/datasets/{}/metadata-properties",
    "vectors-settings": "datasets/{}/vectors-settings",
}
_OF_DATASET = ("name", "guidelines", "allow_extra_metadata", "distribution", "metadata")
_OF_PART = (
    "name",
    "title",
    "description",
    "required",
    "settings",
    "visible_for_annotators",
    "dimensions",
)
_WITH = ("responses", "suggestions", "vectors")


def move_dataset(
    here: Argilla,
    there: Argilla,
    dataset: Json,
    workspace: str,
    people: Mapping[str, str],
    counts: Counts,
) -> None:
    """Bring the dataset in ``workspace`` there up to ``dataset``, which is here.

    Args:
        here: The source.
        there: The target.
        dataset: As the API of the source tells it.
        workspace: The id of its workspace there.
        people: User id here → user id there.
        counts: By kind of thing, added to.

    Raises:
        UserError: A dataset of that name there has other settings or other records.
    """
    name, count = dataset["name"], counts["datasets"]
    count.held += 1
    known = {(one["workspace_id"], one["name"]): one for one in items(there, "me/datasets")}
    same = known.get((workspace, name))
    if same is None:
        body = {key: dataset[key] for key in _OF_DATASET if dataset[key] is not None}
        same = post(there, "datasets", {**body, "workspace_id": workspace})
        count.moved += 1
    else:
        count.already += 1
    questions = _move_settings(here, there, dataset, same)
    if dataset["status"] == "ready":
        if same["status"] != "ready":
            put(there, f"datasets/{same['id']}/publish")
        try:
            _move_records(here, there, dataset, same, Names(people, questions), counts)
        except UserError as error:
            raise UserError(f"{name}: {error.what}", where=there.api_url, fix=error.fix) from None
    count.arrived += 1


def _move_settings(here: Argilla, there: Argilla, dataset: Json, same: Json) -> dict[str, str]:
    """Make the missing parts of the settings; return question id here → question id there."""
    questions = {}
    for part, listed in _PARTS.items():
        present = {one["name"]: one for one in items(there, listed.format(same["id"]))}
        for one in items(here, listed.format(dataset["id"])):
            other = present.get(one["name"])
            if other is None and (same["status"] == "draft" or part not in ("fields", "questions")):
                body = {key: one[key] for key in _OF_PART if one.get(key) is not None}
                other = post(there, f"datasets/{same['id']}/{part}", body)
            if other is None or _shape(other) != _shape(one):
                raise UserError(
                    f"a dataset '{dataset['name']}' is there already, and its {part} are others"
                    f" ('{one['name']}')",
                    where=there.api_url,
                    fix="rename or delete one of the two",
                )
            if part == "questions":
                questions[one["id"]] = other["id"]
    return questions


def _shape(part: Json) -> tuple[Any, ...]:
    """Return what answers and records depend on; titles may be changed there."""
    settings = part.get("settings") or {}
    options = sorted(str(option["value"]) for option in settings.get("options") or ())
    return part.get("required"), part.get("dimensions"), settings.get("type"), options


def _move_records(
    here: Argilla,
    there: Argilla,
    dataset: Json,
    same: Json,
    names: Names,
    counts: Counts,
) -> None:
    records = all_records(here, dataset["id"], dataset["name"], _WITH)
    # Found by a time that many share: sorted, so that a run after a kill sends the same batches.
    records.sort(key=lambda record: (record["inserted_at"], key_of(record)))
    wanted = _lacking(there, same, records, names, counts)
    with track(f"moving {dataset['name']}", len(wanted)) as advance:
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            put(there, f"datasets/{same['id']}/records/bulk", {"items": batch})
            advance(len(batch))
    after = {kind: Moves() for kind in counts}
    _lacking(there, same, records, names, after)
    for kind, moves in after.items():
        counts[kind].arrived += moves.held - moves.moved


def _lacking(
    there: Argilla,
    same: Json,
    records: Sequence[Json],
    names: Names,
    counts: Counts,
) -> list[Json]:
    """Return the items of bulk upserts after which nothing of ``records`` is missing there."""
    present = {key_of(one): one for one in all_records(there, same["id"], same["name"], _WITH)}
    missing = (lacking(one, present.get(key_of(one)), names, counts) for one in records)
    return [item for item in missing if item]
