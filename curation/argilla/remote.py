"""A round's dataset on the server, and all of its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curation.argilla.connection import Connection
from workbench.errors import UserError

if TYPE_CHECKING:
    from argilla import Argilla, Dataset

WORKSPACE = "review"
PAGE = 250
"""Records asked for in one request: a page of them stays well below a second and a megabyte."""
PASSES = 5
"""Readings of all pages after which missing records are an error."""


def dataset_name(persona_id: str, round_name: str, *, queue: bool = False) -> str:
    """Return the name of a round's dataset, or of its disagreement queue."""
    return f"{persona_id}-{round_name}" + ("-queue" if queue else "")


def find_dataset(client: Argilla, name: str) -> Dataset | None:
    """Return the dataset ``name`` of the workspace :data:`WORKSPACE`, or None."""
    from argilla import Dataset

    spaces = {space.id for space in client.api.workspaces.list() if space.name == WORKSPACE}
    for model in client.api.datasets.list():
        if model.name == name and model.workspace_id in spaces:
            return Dataset.from_model(model, client=client).get()
    return None


def existing_dataset(client: Argilla, connection: Connection, name: str) -> Dataset:
    """Return the dataset ``name``.

    Raises:
        UserError: It was not pushed.
    """
    dataset = find_dataset(client, name)
    if dataset is None:
        raise UserError(
            f"no dataset '{name}' in the workspace '{WORKSPACE}'",
            where=connection.url,
            fix="push the round first (`persona review push`)",
        )
    return dataset


def records_of(client: Argilla, dataset: Dataset, *include: str) -> list[dict[str, Any]]:
    """Return all records of a dataset as an owner or admin sees them, as the API gives them.

    As :func:`all_records` does, which see.
    """
    return all_records(client, str(dataset.id), str(dataset.name), include)


def all_records(
    client: Argilla, dataset_id: str, name: str, include: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return all records of a dataset as an owner or admin sees them, as the API gives them.

    The SDK's own records lose the time of a response, which a review keeps. Argilla orders pages
    by a time that records of one push share, so a page can repeat a record and pass over another
    while people work; it is read again until nothing is missing.

    Args:
        client: A client with an owner's or admin's key.
        dataset_id: The dataset's id.
        name: Its name, to be told in an error.
        include: ``responses``, ``suggestions``, ``vectors``, or nothing.

    Raises:
        UserError: Records are missing after :data:`PASSES` readings.
    """
    found: dict[str, dict[str, Any]] = {}
    for _ in range(PASSES):
        total, offset = 1, 0
        while offset < total:
            response = client.http_client.get(
                f"/api/v1/datasets/{dataset_id}/records",
                params={"offset": offset, "limit": PAGE, "include": list(include)},
            )
            response.raise_for_status()
            page = response.json()
            total, offset = page["total"], offset + PAGE
            found |= {item["id"]: item for item in page["items"]}
        if len(found) >= total:
            return list(found.values())
    raise UserError(
        f"only {len(found)} of {total} records of '{name}' could be read",
        where=client.api_url,
        fix="run the same command again when records are no longer being added",
    )
