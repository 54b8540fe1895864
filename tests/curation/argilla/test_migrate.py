"""From the embedded server to a team's Argilla, which another embedded server plays."""

from __future__ import annotations

import contextlib
import io
import json
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.main import main as persona
from curation.argilla import migrate_dataset
from curation.argilla.client import Connection
from curation.argilla.migrate import NewLogins, migrate
from curation.argilla.migrate_dataset import Moves
from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.server import Server, ServerHome, start, stop
from curation.argilla.server_home import HOME_VARIABLE
from curation.argilla.server_link import KEY_VARIABLE, connect, disconnect, link_of
from tests.curation.argilla_api import Api
from tests.curation.relay import relay
from tests.curation.review_team import answer, few, owner_of, reviewers_of
from tests.curation.search_rows import ROWS, SETTINGS
from workbench.errors import UserError
from workbench.persona import Persona, load_persona

ROUND = "round-030"
REVIEWERS = ("moving-1", "moving-2")
KEYS = ("records", "suggestions", "vectors", "responses")


@pytest.fixture(scope="module")
def source_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHome]:
    """The home of the server to be moved; a small one, for its datasets are read often."""
    home = ServerHome(tmp_path_factory.mktemp("embedded") / "home")
    yield home
    stop(home)


@pytest.fixture(scope="module")
def source_server(source_home: ServerHome) -> Server:
    return start(source_home, REVIEWERS)


@pytest.fixture(scope="module")
def team(argilla_server: Server) -> Server:
    """The team's Argilla, which holds much else: the server of the other tests."""
    return argilla_server


@pytest.fixture(scope="module")
def coach(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer")


def holdings(server: Server, only: Collection[str] = ()) -> dict[str, Any]:
    """All that people see of datasets, by names instead of ids and without times."""
    api = Api(server, "owner")
    names = {user["id"]: user["username"] for user in api.call("GET", "users")["items"]}
    spaces = {one["id"]: one["name"] for one in api.call("GET", "me/workspaces")["items"]}
    found: dict[str, Any] = {}
    for dataset in api.call("GET", "me/datasets")["items"]:
        called = f"{spaces[dataset['workspace_id']]}/{dataset['name']}"
        if only and called not in only:
            continue
        at = f"datasets/{dataset['id']}"
        settings = {
            part: [
                {key: value for key, value in one.items() if not re.search(r"(^|_)(id|at)$", key)}
                for one in api.call("GET", path)["items"]
            ]
            for part, path in {
                "fields": f"{at}/fields",
                "questions": f"{at}/questions",
                "metadata": f"me/{at}/metadata-properties",
                "vectors": f"{at}/vectors-settings",
            }.items()
        }
        asked = {one["id"]: one["name"] for one in api.call("GET", f"{at}/questions")["items"]}
        include = "&".join(f"include={kind}" for kind in ("responses", "suggestions", "vectors"))
        records = {}
        for one in api.call("GET", f"{at}/records?limit=1000&{include}")["items"]:
            records[one["external_id"] or one["id"]] = {
                "record": (one["fields"], one["metadata"], one["status"], one["vectors"]),
                "suggestions": {
                    asked[s["question_id"]]: (s["value"], s["score"], s["agent"], s["type"])
                    for s in one["suggestions"]
                },
                "responses": {
                    names[r["user_id"]]: (r["status"], r["values"] or {}) for r in one["responses"]
                },
            }
        kept = ("guidelines", "distribution", "status", "metadata", "allow_extra_metadata")
        about = {key: dataset[key] for key in kept}
        found[called] = (about, settings, records)
    return found


def moved(counts: Any) -> dict[str, int]:
    return {kind: counts[kind].moved for kind in counts if counts[kind].moved}


def test_everything_arrives_once_and_later_work_on_both_sides_is_kept(
    source_server: Server, team: Server, coach: Persona, tmp_path: Path
) -> None:
    owner, logins = owner_of(source_server), reviewers_of(source_server)
    one, two = (logins[name] for name in REVIEWERS)
    rows = few(5)
    name = push(owner, coach, ROUND, rows, reviewers_per_record=2, few_shot=rows[:1]).dataset
    answer(one, name, rows[0].id, fidelity=4, problems=["emoji"], corrected="Up!", note="why")
    answer(two, name, rows[0].id, fidelity=2)
    answer(one, name, rows[1].id, "draft", note="later")
    answer(two, name, rows[2].id, "discarded")
    answer(owner, name, rows[3].id, fidelity=5)  # the owner becomes the connected owner
    api = Api(source_server, "owner")
    other = api.dataset("of-all-kinds", SETTINGS, overlap=1)
    api.push(other, [{"external_id": key, **row} for key, row in ROWS.items()])
    api.call("PUT", f"datasets/{other}/records/bulk", {"items": [{"fields": {"question": "?"}}]})
    room = api.call("POST", "workspaces", {"name": "side-room"})["id"]
    body = {"name": "a-draft", "workspace_id": room, "guidelines": "Not yet."}
    api.call("POST", "datasets", body)
    members = {user["username"]: user["id"] for user in api.call("GET", "users")["items"]}
    api.call("POST", f"workspaces/{room}/users", {"user_id": members[REVIEWERS[0]]})

    passwords = NewLogins(tmp_path / "new-logins.json", team.url)
    done = migrate(owner, owner_of(team), passwords)
    here = holdings(source_server)
    there = holdings(team, here)
    assert there == here
    assert all(count.add_up for count in done.counts.values())
    assert (done.counts["datasets"].moved, set(here)) == (
        3,
        {f"gym-trainer/{name}", "search/of-all-kinds", "side-room/a-draft"},
    )
    assert done.counts["workspaces"].held == 3
    theirs = Api(team, "owner")
    (moved_room,) = (
        one["id"]
        for one in theirs.call("GET", "me/workspaces")["items"]
        if one["name"] == "side-room"
    )
    joined = theirs.call("GET", f"workspaces/{moved_room}/users")["items"]
    assert [user["username"] for user in joined] == [REVIEWERS[0]]
    assert done.counts["records"].moved == sum(len(kept[2]) for kept in here.values())
    assert set(done.logins) == set(source_server.logins) - {"owner"}
    assert stat.S_IMODE(passwords.path.stat().st_mode) == 0o600
    signed_in = httpx.post(
        f"{team.url}/api/v1/token",
        data={"username": REVIEWERS[0], "password": done.logins[REVIEWERS[0]]},
        trust_env=False,
    )
    assert signed_in.status_code == 201
    before = pull(owner, coach, ROUND)
    after = pull(owner_of(team), coach, ROUND)
    assert [(r.record, r.reviewer, r.answers) for r in after] == [
        (r.record, r.reviewer, r.answers) for r in before
    ]
    passwords.forget()
    assert not passwords.path.exists()

    keys = {
        user["username"]: user["api_key"]
        for user in Api(team, "owner").call("GET", "users")["items"]
    }
    answer(Connection(team.url, keys[REVIEWERS[1]]), name, rows[0].id, fidelity=1)  # there
    answer(two, name, rows[4].id, fidelity=3)  # here, after the first move
    again = migrate(owner, owner_of(team), passwords)
    assert moved(again.counts) == {"responses": 1}
    assert (again.counts["responses"].changed, again.logins) == (1, {})
    changed = {
        (r.record, r.reviewer): r.answers["fidelity"] for r in pull(owner_of(team), coach, ROUND)
    }
    assert changed[rows[0].id, REVIEWERS[1]] == 1, "what was said there later stays"
    assert changed[rows[4].id, REVIEWERS[1]] == 3, "what was said here meanwhile follows"


def test_a_move_that_breaks_off_goes_on_where_it_was(
    source_server: Server,
    team: Server,
    coach: Persona,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = owner_of(source_server)
    rows = few(7, answer="Sit down.")
    name = push(owner, coach, "round-031", rows, reviewers_per_record=1).dataset
    answer(reviewers_of(source_server)[REVIEWERS[0]], name, rows[0].id, fidelity=4)
    newcomer = "late-reviewer"
    late = Api(source_server, "owner")
    account = {"username": newcomer, "first_name": "late", "password": "12345678-first"}
    late.call("POST", "users", {**account, "role": "annotator"})
    monkeypatch.setattr(migrate_dataset, "BATCH", 3)
    passwords = NewLogins(tmp_path / "new-logins.json", team.url)
    with relay(team.url, cut="records/bulk", passed=1) as url:
        to = Connection(url, team.owner_api_key)
        with pytest.raises(UserError, match="does not answer") as error:
            migrate(owner, to, NewLogins(passwords.path, team.url))
        assert error.value.where == url and "nothing is lost" in error.value.line()
    noted = passwords.pending()
    here = holdings(source_server)
    assert set(noted) == {newcomer}, "not shown yet, so not lost"
    rest = migrate(owner, owner_of(team), passwords)
    assert moved(rest.counts)["records"] == 4, "three of seven were there"
    assert rest.logins == noted
    assert holdings(team, here).keys() == here.keys()
    assert moved(migrate(owner, owner_of(team), passwords).counts) == {}


def test_what_contradicts_the_target_is_one_line(
    source_server: Server, team: Server, tmp_path: Path
) -> None:
    passwords = NewLogins(tmp_path / "new-logins.json", team.url)
    with pytest.raises(UserError, match="that is the embedded server itself"):
        migrate(owner_of(source_server), owner_of(source_server), passwords)
    here, there = Api(source_server, "owner"), Api(team, "owner")
    here.dataset("contradicted", SETTINGS, overlap=1)
    fewer = {**SETTINGS, "questions": SETTINGS["questions"][:1]}
    made = there.dataset("contradicted", fewer, overlap=1)
    with pytest.raises(UserError, match="'contradicted' is there already, and its questions are"):
        migrate(owner_of(source_server), owner_of(team), passwords)
    there.call("DELETE", f"datasets/{made}")
    made = there.dataset("contradicted", SETTINGS, overlap=1)
    there.push(made, [{"external_id": "same", "fields": {"question": "there"}}])
    mine = {one["name"]: one["id"] for one in here.call("GET", "me/datasets")["items"]}
    here.push(mine["contradicted"], [{"external_id": "same", "fields": {"question": "here"}}])
    with pytest.raises(UserError, match="contradicted: another record 'same' is there already"):
        migrate(owner_of(source_server), owner_of(team), passwords)
    there.call("DELETE", f"datasets/{made}")


def test_counts_that_do_not_add_up_say_so() -> None:
    assert Moves(held=3, moved=1, already=1, changed=1, arrived=3).add_up
    assert not Moves(held=3, moved=1, already=1, changed=1, arrived=2).add_up
    assert not Moves(held=3, moved=1, already=1, arrived=3).add_up


@dataclass(frozen=True)
class Output:
    exit_code: int
    output: str


def invoke(*words: str) -> Output:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = persona(["review", *words])
    return Output(code, output.getvalue())


def test_connected_commands_talk_to_the_team_and_back(
    source_server: Server,
    source_home: ServerHome,
    team: Server,
    coach: Persona,
    repo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setenv(HOME_VARIABLE, str(source_home.path))
    monkeypatch.setenv(KEY_VARIABLE, team.owner_api_key)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    at = ("--runs", str(runs), "--persona", str(repo / "datasets/gym-trainer"), "--round", "32")
    rows = few(2, answer="Walk.")
    name = push(owner_of(source_server), coach, "round-032", rows, reviewers_per_record=1).dataset
    answer(reviewers_of(source_server)[REVIEWERS[0]], name, rows[0].id, fidelity=4)
    try:
        done = invoke("connect", team.url + "/", *at)
        assert (done.exit_code, done.output) == (0, f"connected to {team.url}\n")
        saved = source_home.path / "connected.json"
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        assert json.loads(saved.read_text()) == {"url": team.url, "key_file": ""}
        moved_over = invoke("migrate", *at)
        assert moved_over.exit_code == 0, moved_over.output
        table = {
            cells[0]: [int(cell) for cell in cells[1:]]
            for line in moved_over.output.splitlines()
            if (cells := [cell.strip() for cell in line.strip("│ ").split("│")])[0] in KEYS
        }
        assert all(row[0] == row[1] + row[2] + row[3] == row[4] for row in table.values())
        assert set(table) == set(KEYS)
        shown = invoke("status", *at)
        assert shown.exit_code == 0, shown.output
        assert "gym-trainer-round-032: 1 of 2 complete" in shown.output
        assert team.url in start(source_home, [], reuse=True).url
        monkeypatch.delenv(KEY_VARIABLE)
        lost = invoke("status", *at)
        assert lost.exit_code == 2 and f"{KEY_VARIABLE} is not set" in lost.output
        back = invoke("connect", "--embedded", *at)
        assert back.output == "back to the embedded server\n"
        assert start(source_home, [], reuse=True).url == source_server.url
    finally:
        disconnect(source_home)
    secret = team.owner_api_key
    files = [path for folder in (runs, source_home.path) for path in folder.rglob("*.json")]
    assert [path for path in files if secret in path.read_text(encoding="utf-8")] == []


def test_a_connection_is_saved_only_when_it_works(
    source_server: Server, team: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    home = ServerHome(tmp_path / "home")
    refused = {
        "is no address of an Argilla": ("argilla.example.org", "key"),
        "an address with a password": ("https://me:pw@argilla.example.org", "key"),
        "the API key is not valid there": (team.url, "wrong"),
        "does not answer": ("http://127.0.0.1:9", "key"),
        "with the role 'annotator'": (
            source_server.url,
            source_server.logins[REVIEWERS[0]].api_key,
        ),
    }
    for what, (url, key) in refused.items():
        with pytest.raises(UserError, match=what) as error:
            connect(home, url, key=key)
        assert key == "key" or key not in error.value.line()
        assert "pw" not in error.value.line()
    with pytest.raises(UserError, match=f"{KEY_VARIABLE} is not set"):
        connect(home, team.url)
    assert link_of(home) is None

    file = tmp_path / "key"
    with pytest.raises(UserError, match="no API key can be read there"):
        connect(home, team.url, key_file=file)
    file.write_text(f"{team.owner_api_key}\n")
    assert connect(home, team.url, key_file=file).connection() == owner_of(team)
    typed = connect(home, team.url, key=team.owner_api_key)
    kept = Path(typed.key_file)
    assert tmp_path / "config" in kept.parents and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert typed.connection() == owner_of(team)
    assert disconnect(home) and not kept.exists() and not disconnect(home)


def test_commands_say_what_they_lack(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    at = ("--runs", str(tmp_path / "runs"), "--persona", str(repo / "datasets/gym-trainer"))
    for words, said in {
        ("connect",): "needs one of URL and --embedded",
        ("connect", "http://127.0.0.1:9"): "no API key",
        ("connect", "--embedded"): "was not connected to another Argilla",
        ("migrate",): "not connected to another Argilla",
    }.items():
        done = invoke(*words, *at)
        assert said in done.output, done.output
        assert done.exit_code == (0 if "--embedded" in words else 2)
