"""A thin hand on Argilla's HTTP API, so that tests say exactly what the engine is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from curation.argilla.server import Server

WORKSPACE = "search"
"""The workspace of datasets that are made by hand; everybody is in it."""


@dataclass(frozen=True)
class Found:
    """One page of a search: external ids in order, how many match in all, and the scores."""

    ids: list[str]
    total: int
    scores: list[float | None]


class Api:
    """The server, as one of its users."""

    def __init__(self, server: Server, username: str) -> None:
        self.me = username
        self._client = httpx.Client(
            base_url=f"{server.url}/api/v1/",
            headers={"X-Argilla-Api-Key": server.logins[username].api_key},
            timeout=30,
            trust_env=False,
        )

    def call(self, method: str, path: str, body: Any = None, *, status: int | None = None) -> Any:
        """Return the JSON of an answer, which must have ``status`` (any success when None)."""
        response = self._client.request(method, path, json=body)
        expected = response.is_success if status is None else response.status_code == status
        assert expected, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response.json() if response.content else None

    def workspace(self) -> str:
        names = {item["name"]: item["id"] for item in self.call("GET", "me/workspaces")["items"]}
        if WORKSPACE not in names:
            names[WORKSPACE] = self.call("POST", "workspaces", {"name": WORKSPACE})["id"]
        members = f"workspaces/{names[WORKSPACE]}/users"
        inside = {user["id"] for user in self.call("GET", members)["items"]}
        for user in self.call("GET", "users")["items"]:
            if user["id"] not in inside:
                self.call("POST", members, {"user_id": user["id"]})
        return str(names[WORKSPACE])

    def dataset(self, name: str, settings: dict[str, list[dict[str, Any]]], overlap: int) -> str:
        """Make and publish a dataset; ``settings`` maps the API's path to its items."""
        distribution = {"strategy": "overlap", "min_submitted": overlap}
        made = self.call(
            "POST",
            "datasets",
            {"name": name, "workspace_id": self.workspace(), "distribution": distribution},
        )
        for path, items in settings.items():
            for item in items:
                self.call("POST", f"datasets/{made['id']}/{path}", item)
        self.call("PUT", f"datasets/{made['id']}/publish")
        return str(made["id"])

    def push(self, dataset: str, records: list[dict[str, Any]]) -> dict[str, str]:
        """Upsert records and return external id → the server's id."""
        pushed = self.call("PUT", f"datasets/{dataset}/records/bulk", {"items": records})["items"]
        return {item["external_id"]: item["id"] for item in pushed}

    def answer(self, record: str, status: str, **values: Any) -> dict[str, Any]:
        body = {"status": status, "values": {k: {"value": v} for k, v in values.items()}}
        found: dict[str, Any] = self.call("POST", f"records/{record}/responses", body)
        return found

    def search(
        self,
        dataset: str,
        text: str | None = None,
        *,
        field: str | None = None,
        filters: list[dict[str, Any]] | None = None,
        sort: list[dict[str, Any]] | None = None,
        vector: dict[str, Any] | None = None,
        page: str = "limit=50",
        status: int = 200,
    ) -> Found:
        query = {
            **({"text": {"q": text, "field": field}} if text is not None else {}),
            **({"vector": vector} if vector else {}),
        }
        body = {
            **({"query": query} if query else {}),
            **({"filters": {"and": filters}} if filters else {}),
            **({"sort": sort} if sort else {}),
        }
        mine = "" if self.me == "owner" else "me/"
        path = f"{mine}datasets/{dataset}/records/search?{page}"
        found = self.call("POST", path, body, status=status)
        items = found.get("items", [])
        return Found(
            [item["record"]["external_id"] for item in items],
            found.get("total", 0),
            [item.get("query_score") for item in items],
        )


def scope(name: str) -> dict[str, Any]:
    """Return the API's scope for ``metadata.x``, ``suggestion.q.prop``, ``response.q``, a record's
    property, or ``response`` (its status)."""
    entity, *parts = name.split(".")
    if entity == "metadata":
        return {"entity": entity, "metadata_property": parts[0]}
    if entity == "suggestion":
        return {"entity": entity, "question": parts[0], "property": parts[1]}
    if entity == "response":
        return {"entity": entity, "question": parts[0]} if parts else _STATUS
    return {"entity": "record", "property": entity}


_STATUS = {"entity": "response", "property": "status"}


def terms(name: str, *values: str) -> dict[str, Any]:
    return {"type": "terms", "scope": scope(name), "values": list(values)}


def between(name: str, ge: float | str | None = None, le: float | str | None = None) -> Any:
    bounds = {"ge": ge, "le": le}
    given = {key: value for key, value in bounds.items() if value is not None}
    return {"type": "range", "scope": scope(name), **given}


def by(name: str, order: str = "asc") -> dict[str, Any]:
    return {"scope": scope(name), "order": order}
