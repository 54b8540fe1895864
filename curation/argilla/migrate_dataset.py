"""One dataset of a migration: its settings first, then its records with all that hangs on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curation.argilla.api import items, post, put
from curation.argilla.migrate_record import Counts, Moves, Names, key_of, lacking
from curation.argilla.remote import all_records
from workbench.console import track
from workbench.errors import UserError

if TYPE_CHECKING:
    from argilla import Argilla

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
    dataset: Mapping[str, Any],
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
        given = {key: dataset[key] for key in _OF_DATASET if dataset[key] is not None}
        same = post(there, "datasets", {**given, "workspace_id": workspace})
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
    count.found += 1


def _move_settings(
    here: Argilla, there: Argilla, dataset: Mapping[str, Any], same: Mapping[str, Any]
) -> dict[str, str]:
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


def _shape(part: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what answers and records depend on; titles may be changed there."""
    settings = part.get("settings") or {}
    options = sorted(str(option["value"]) for option in settings.get("options") or ())
    return part.get("required"), part.get("dimensions"), settings.get("type"), options


def _move_records(
    here: Argilla,
    there: Argilla,
    dataset: Mapping[str, Any],
    same: Mapping[str, Any],
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
        counts[kind].found += moves.held - moves.moved


def _lacking(
    there: Argilla,
    same: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    names: Names,
    counts: Counts,
) -> list[dict[str, Any]]:
    """Return the items of bulk upserts after which nothing of ``records`` is missing there."""
    present = {key_of(one): one for one in all_records(there, same["id"], same["name"], _WITH)}
    found = (lacking(one, present.get(key_of(one)), names, counts) for one in records)
    return [item for item in found if item]
