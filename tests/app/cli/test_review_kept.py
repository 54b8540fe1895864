"""What people said stays in the round, whatever becomes of accounts, records and servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from curation.argilla.client import (
    Connection,
    admit,
    connected,
    existing_dataset,
    records_of,
)
from curation.argilla.pull import pull, review_progress
from curation.argilla.server import Server, start
from curation.argilla.server_home import HOME_VARIABLE, ServerHome
from tests.commands import Commands, Output
from tests.curation.review_team import answer, joined, owner_of, seeds
from workbench.errors import UserError
from workbench.records import Example

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
    """Make an account in the persona's workspace; return its id and its connection."""
    body = {"username": name, "first_name": name, "role": "annotator", "password": "12345678"}
    user = api.post("users", json=body).raise_for_status().json()
    spaces = api.get("me/workspaces").json()["items"]
    (space,) = (one["id"] for one in spaces if one["name"] == "gym-trainer")
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


def _push(commands: Commands, number: int, count: int) -> list[Example]:
    rows = seeds(commands.repo / "datasets" / "gym-trainer")[:count]
    commands.put("filter/examples.jsonl", rows, number)
    for name in ("filter/preferences", "generate/baseline", "generate/preferences"):
        commands.put(f"{name}.jsonl", [], number)
    assert commands.on_round("review", "push", number=number).code == 0
    return rows


def test_reviews_outlive_accounts_records_and_datasets(
    commands: Commands, api: httpx.Client, argilla_home: ServerHome
) -> None:
    rows = _push(commands, ROUND, 3)
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

    api.patch(f"users/{stayer}", json={"username": "stayer-2"}).raise_for_status()
    unchanged("stayer is called stayer-2 on the server now: the round keeps the name stayer")
    api.patch(f"users/{stayer}", json={"username": "stayer"}).raise_for_status()

    api.delete(f"users/{leaver}").raise_for_status()
    gone = (
        f"{total} reviews of accounts that are gone from the server: kept as pulled: leaver {total}"
    )
    unchanged(gone)

    api.request(
        "DELETE", f"datasets/{dataset.id}/records", params={"ids": records[rows[0].id]}
    ).raise_for_status()
    missing = "gone from the server: kept as pulled: stayer"
    unchanged(gone, "1 row pushed", f"1 review {missing} 1")

    api.delete(f"datasets/{dataset.id}").raise_for_status()
    unchanged(f"{total} rows pushed", f"{total} reviews {missing} {total}")
    assert "already done" in commands.on_round("resolve", number=ROUND).err


def test_a_closed_account_is_waited_for_no_more_and_what_a_server_lost_is_put_back(
    commands: Commands, api: httpx.Client, argilla_home: ServerHome
) -> None:
    number, name = ROUND + 1, f"gym-trainer-round-{ROUND + 1}"
    rows = _push(commands, number, 3)
    server = start(argilla_home, ["closed-one", "goes-on"], reuse=True)
    with connected(owner_of(server)) as client:
        space = existing_dataset(client, owner_of(server), name).workspace
        admit(client, space, ["closed-one", "goes-on"])
    for who in ("closed-one", "goes-on"):
        login = Connection(server.url, server.logins[who].api_key)
        answer(login, name, rows[0].id, fidelity=4, corrected=" *So*, champ.")
        answer(login, name, rows[1].id, "discarded")
    owner = owner_of(server)
    persona = commands.context(number).persona

    slip = commands.on_round("review", "close", "closed-two", number=number)
    assert slip.code == 2 and "did you mean 'closed-one'?" in slip.err
    assert commands.on_round("review", "close", "closed-one", number=number).code == 0
    commands.on_round("review", "status", number=number)  # no command lets it in again
    progress = review_progress(owner, persona, f"round-{number}").reviewers
    assert (progress["closed-one"].done, progress["closed-one"].left) == (2, 0)
    with pytest.raises(UserError, match="no dataset"), connected(login_of(server)) as client:
        existing_dataset(client, login_of(server), name)
    assert commands.on_round("review", "pull", number=number).code == 0
    before = pull(owner, persona, f"round-{number}")
    assert [one.reviewer for one in before].count("closed-one") == 2

    with connected(owner) as client:
        gone = existing_dataset(client, owner, name).id
    api.delete(f"datasets/{gone}").raise_for_status()
    again = commands.on_round("review", "push", number=number)
    assert "2 reviews put back on the server: goes-on 2" in again.err
    after = pull(owner, persona, f"round-{number}")
    own = [one for one in before if one.reviewer == "goes-on"]
    assert [one.id for one in after] == [one.id for one in own]
    assert commands.on_round("review", "close", "closed-one", "--reopen", number=number).code == 0
    assert "goes" not in commands.on_round("review", "pull", number=number).err
    assert {one.reviewer for one in pull(owner, persona, f"round-{number}")} == {
        "closed-one",
        "goes-on",
    }


def login_of(server: Server) -> Connection:
    return Connection(server.url, server.logins["closed-one"].api_key)
