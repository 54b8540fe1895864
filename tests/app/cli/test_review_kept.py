"""What people said stays in the round, whatever becomes of accounts, records and servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from curation.argilla.client import (
    WORKSPACE,
    Connection,
    connected,
    existing_dataset,
    records_of,
)
from curation.argilla.server import Server
from curation.argilla.server_home import HOME_VARIABLE, ServerHome
from tests.commands import Commands, Output
from tests.curation.review_team import answer, joined, owner_of, seeds

ROUND = 141  # the server is that of all tests, which have other rounds of this persona
NAME = f"gym-trainer-round-{ROUND}"


@pytest.fixture
def api(
    argilla_home: ServerHome, argilla_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """The owner's way to the server."""
    monkeypatch.setenv(HOME_VARIABLE, str(argilla_home.path))
    owner = owner_of(joined(argilla_home))
    headers = {"X-Argilla-Api-Key": owner.api_key}
    with httpx.Client(base_url=f"{owner.url}/api/v1/", headers=headers, trust_env=False) as client:
        yield client


def _account(api: httpx.Client, name: str) -> tuple[str, Connection]:
    """Make an account in the workspace; return its id and its connection."""
    body = {"username": name, "first_name": name, "role": "annotator", "password": "12345678"}
    user = api.post("users", json=body).raise_for_status().json()
    spaces = api.get("me/workspaces").json()["items"]
    (space,) = (one["id"] for one in spaces if one["name"] == WORKSPACE)
    api.post(f"workspaces/{space}/users", json={"user_id": user["id"]}).raise_for_status()
    url = str(api.base_url).removesuffix("/api/v1/")
    return user["id"], Connection(url, user["api_key"])


def _files(commands: Commands) -> dict[str, bytes]:
    names = ("reviews", "gold-reviews", "adjudications")
    return {name: _review_file(commands, name).read_bytes() for name in names}


def _review_file(commands: Commands, name: str) -> Path:
    return commands.folder(ROUND) / "review" / f"{name}.jsonl"


def _pull(commands: Commands) -> Output:
    output = commands.on_round("review", "pull", number=ROUND)
    assert output.code == 0, output.err
    return output


def test_reviews_outlive_accounts_records_and_datasets(
    commands: Commands, api: httpx.Client, argilla_home: ServerHome
) -> None:
    rows = seeds(commands.repo / "datasets" / "gym-trainer")[:3]
    commands.put("filter/examples.jsonl", rows, ROUND)
    for name in ("filter/preferences", "generate/baseline", "generate/preferences"):
        commands.put(f"{name}.jsonl", [], ROUND)
    assert commands.on_round("review", "push", number=ROUND).code == 0
    (leaver, one), (stayer, two) = _account(api, "leaver"), _account(api, "stayer")
    owner = owner_of(joined(argilla_home))
    with connected(owner) as client:
        dataset = existing_dataset(client, owner, NAME)
        records = {item["external_id"]: item["id"] for item in records_of(client, dataset)}
    for number, record in enumerate(records):
        answer(one, NAME, record, fidelity=1 + number % 5, note="by the leaver")
        answer(two, NAME, record, fidelity=4, corrected=f"Champ, {number}.")
    _pull(commands)
    pulled, total = _files(commands), len(records)
    assert commands.on_round("resolve", number=ROUND).code == 0

    def unchanged(*lines: str) -> None:
        output = _pull(commands)
        assert all(line in output.err for line in lines), output.err
        assert _files(commands) == pulled
        manifest = commands.round(ROUND).manifest("review")
        assert manifest and manifest.counts["complete"] is True
        assert "already done" in commands.on_round("resolve", number=ROUND).err

    api.patch(f"users/{stayer}", json={"username": "stayer-2"}).raise_for_status()
    unchanged("stayer is called stayer-2 on the server now: the round keeps the name stayer")
    api.patch(f"users/{stayer}", json={"username": "stayer"}).raise_for_status()

    api.delete(f"users/{leaver}").raise_for_status()
    gone = (
        f"{total} reviews of accounts that are gone from the server stay as they were pulled:"
        f" leaver {total}"
    )
    unchanged(gone)

    api.request(
        "DELETE", f"datasets/{dataset.id}/records", params={"ids": records[rows[0].id]}
    ).raise_for_status()
    missing = "reviews are gone from the server and stay as they were pulled: stayer"
    unchanged(gone, "1 rows pushed", f"1 {missing} 1")

    api.delete(f"datasets/{dataset.id}").raise_for_status()
    unchanged(f"{total} rows pushed", f"{total} {missing} {total}")
