"""Calls of Argilla's HTTP API that its SDK does not make, through an SDK client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argilla import Argilla


def get(client: Argilla, path: str, **params: Any) -> dict[str, Any]:
    """Return the answer to ``GET /api/v1/{path}``."""
    return _answer(client.http_client.get(f"/api/v1/{path}", params=params))


def items(client: Argilla, path: str) -> list[dict[str, Any]]:
    """Return the items of a list that Argilla gives as a whole."""
    return list(get(client, path)["items"])


def post(client: Argilla, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to ``POST /api/v1/{path}``."""
    return _answer(client.http_client.post(f"/api/v1/{path}", json=body))


def put(client: Argilla, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer to ``PUT /api/v1/{path}``."""
    return _answer(client.http_client.put(f"/api/v1/{path}", json=body))


def _answer(response: Any) -> dict[str, Any]:
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found
