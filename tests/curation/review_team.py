"""Reviewers of the test server, rows for them, and what they answer in their browsers."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from curation.argilla.client import Connection
from curation.argilla.server import Server, ServerHome, start
from workbench.records import Example, user_prompt

REVIEWERS = ("reviewer-1", "reviewer-2")


def joined(home: ServerHome) -> Server:
    """Return the running server of ``home``, with accounts for :data:`REVIEWERS`."""
    return start(home, REVIEWERS, reuse=True)


def owner_of(server: Server) -> Connection:
    return Connection(server.url, server.owner_api_key)


def reviewers_of(server: Server) -> dict[str, Connection]:
    """Return every reviewer's connection, also of those that other tests have asked for."""
    return {
        name: Connection(server.url, login.api_key)
        for name, login in server.logins.items()
        if login.api_key != server.owner_api_key
    }


def seeds(folder: Path) -> list[Example]:
    rows = []
    lines = (folder / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        row = json.loads(line)
        rows.append(
            Example(
                prompt=user_prompt(row["instruction"], row["input"]),
                answer=row["output"],
                topic=row["topic"],
                source=f"seeds.jsonl:{number}",
            )
        )
    return rows


def few(count: int, answer: str = "Champ, stand up.") -> list[Example]:
    return [
        Example(prompt=user_prompt(f"Question {n}?"), answer=f"{answer} {n}", topic="soreness")
        for n in range(count)
    ]


def answer(
    login: Connection, dataset: str, record: str, state: str = "submitted", **values: object
) -> None:
    """Answer one record as a reviewer's browser does."""
    headers = {"X-Argilla-Api-Key": login.api_key}
    with httpx.Client(base_url=f"{login.url}/api/v1/", headers=headers, trust_env=False) as api:
        listed = api.get("me/datasets").json()["items"]
        (found,) = (one["id"] for one in listed if one["name"] == dataset)
        page = api.post(
            f"me/datasets/{found}/records/search", params={"limit": 1000}, json={}
        ).json()
        ids = {one["record"]["external_id"]: one["record"]["id"] for one in page["items"]}
        given = {name: {"value": value} for name, value in values.items()}
        item = {"record_id": ids[record], "status": state, "values": given}
        response = api.post("me/responses/bulk", json={"items": [item]})  # again: it is changed
        response.raise_for_status()
        (done,) = response.json()["items"]
        assert done["error"] is None, done["error"]
