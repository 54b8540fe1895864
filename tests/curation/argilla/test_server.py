"""Start, stop and survival of the embedded Argilla server, as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from curation.argilla.server import Server, ServerHome, shared_url, show_logins, start, status, stop
from curation.argilla.server_home import HOME_VARIABLE
from tests.curation.argilla_api import Api, terms
from tests.waiting import waited
from workbench.errors import UserError

FIELDS = [{"name": "question", "title": "q", "required": True, "settings": {"type": "text"}}]
RATING = {"type": "rating", "options": [{"value": value} for value in range(6)]}
QUESTIONS = [{"name": "fidelity", "title": "f", "required": True, "settings": RATING}]
SMALL = {"fields": FIELDS, "questions": QUESTIONS}


def household(pid: int) -> list[psutil.Process]:
    """The launcher and everything that it started."""
    launcher = psutil.Process(pid)
    return [launcher, *launcher.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def argilla_server(argilla_home: ServerHome, argilla_server: Server) -> Server:
    """The server as it runs now: a test of the pages stops it and starts it from a page."""
    return start(argilla_home, ["reviewer-a", "reviewer-b"], reuse=True)


@pytest.fixture
def home(argilla_home: ServerHome, argilla_server: Server, tmp_path: Path) -> Iterator[ServerHome]:
    """A home that need not migrate: the database and accounts of the running one, copied."""
    mine = ServerHome(tmp_path / "home")
    mine.create()
    for name in ("argilla.db", "argilla.db-wal", "secrets.json"):
        if (argilla_home.path / name).exists():
            shutil.copy2(argilla_home.path / name, mine.path / name)
    yield mine
    stop(mine)


def test_a_reviewer_signs_in_with_the_password_that_is_shown(
    argilla_server: Server, argilla_home: ServerHome
) -> None:
    shown = {login.username: login for login in show_logins(argilla_home)}
    assert {"owner", "reviewer-a", "reviewer-b"} <= set(shown)
    answer = httpx.post(
        f"{argilla_server.url}/api/v1/token",
        data={"username": "reviewer-a", "password": shown["reviewer-a"].password},
        trust_env=False,
    )
    assert answer.status_code == 201
    page = httpx.get(f"{argilla_server.url}/", trust_env=False)
    assert "<title" in page.text


def test_secrets_are_random_private_and_nowhere_else(
    argilla_server: Server, argilla_home: ServerHome
) -> None:
    assert stat.S_IMODE(argilla_home.secrets_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(argilla_home.path.stat().st_mode) == 0o700
    open_to_others = [
        path
        for path in argilla_home.path.rglob("*")
        if path.stat().st_mode & 0o077 and path.is_file()
    ]
    assert [p for p in open_to_others if "tmp" not in p.parts] == []
    logins = show_logins(argilla_home)
    secrets = [s for login in logins for s in (login.password, login.api_key)]
    assert len(set(secrets)) == len(secrets) >= 6
    assert min(len(secret) for secret in secrets) >= 16
    told = repr(argilla_server) + repr(logins) + argilla_home.log.read_text()
    told += argilla_home.state_file.read_text()
    told += " ".join(" ".join(p.cmdline()) for p in household(argilla_server.pid))
    assert [secret for secret in secrets if secret in told] == []


def test_it_listens_on_loopback_alone(argilla_server: Server) -> None:
    listening = {
        connection.laddr.ip
        for process in household(argilla_server.pid)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_the_whole_household_fits_in_600_mib(argilla_server: Server) -> None:
    resident = sum(p.memory_info().rss for p in household(argilla_server.pid))
    assert resident < 600 * 2**20


def test_a_reviewer_cannot_reach_what_is_not_theirs(argilla_server: Server) -> None:
    owner, reviewer_a, reviewer_b = (
        Api(argilla_server, name) for name in ("owner", "reviewer-a", "reviewer-b")
    )
    dataset = owner.dataset("private", SMALL, overlap=2)
    record = owner.push(dataset, [{"external_id": "a", "fields": {"question": "?"}}])["a"]
    answered = reviewer_a.answer(record, "submitted", fidelity=4)
    found = reviewer_b.call("POST", f"me/datasets/{dataset}/records/search?include=responses", {})
    assert found["items"][0]["record"]["responses"] == []
    reviewer_b.call("GET", f"datasets/{dataset}/records?include=responses", status=403)
    reviewer_b.call("POST", f"datasets/{dataset}/records/search", {}, status=403)
    taken_over = {"status": "submitted", "values": {"fidelity": {"value": 1}}}
    reviewer_b.call("PUT", f"responses/{answered['id']}", taken_over, status=403)
    reviewer_b.call("DELETE", f"responses/{answered['id']}", status=403)
    reviewer_b.call("GET", "users", status=403)
    other = owner.call("POST", "workspaces", {"name": "elsewhere"})
    body = {"name": "hidden", "workspace_id": other["id"]}
    hidden = owner.call("POST", "datasets", body)["id"]
    reviewer_b.call("GET", f"datasets/{hidden}", status=403)
    visible = [item["id"] for item in reviewer_b.call("GET", "me/datasets")["items"]]
    assert (dataset in visible, hidden in visible) == (True, False)


def test_a_second_start_is_refused_or_joins(
    argilla_server: Server, argilla_home: ServerHome
) -> None:
    with pytest.raises(
        UserError, match=rf"already runs on this home \(process {argilla_server.pid}"
    ):
        start(argilla_home, ["reviewer-a"])
    again = start(argilla_home, ["reviewer-b"], reuse=True)
    assert (again.pid, again.url) == (argilla_server.pid, argilla_server.url)
    assert again.logins["reviewer-a"].api_key == argilla_server.logins["reviewer-a"].api_key
    assert status(argilla_home).stage == "ready"


def test_a_wrong_reviewer_name_is_refused(argilla_home: ServerHome) -> None:
    with pytest.raises(UserError, match="'a b' cannot be a reviewer's name"):
        start(argilla_home, ["a b"], reuse=True)
    with pytest.raises(UserError, match="'owner' cannot be"):
        start(argilla_home, ["owner"], reuse=True)


def test_webhooks_are_called_by_the_job_worker(argilla_server: Server) -> None:
    heard: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(json.loads(body)["type"])
            self.send_response(500 if len(heard) == 1 else 200)  # the first call must be repeated
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Listener) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        owner = Api(argilla_server, "owner")
        url = f"http://127.0.0.1:{listener.server_port}/"
        body = {"url": url, "events": ["dataset.created", "record.created"]}
        hook = owner.call("POST", "webhooks", {**body, "description": "test"})
        dataset = owner.dataset("heard", SMALL, overlap=1)
        waited(lambda: len(heard) == 2)
        owner.push(dataset, [{"external_id": "a", "fields": {"question": "?"}}])
        waited(lambda: len(heard) == 3)
        owner.call("DELETE", f"webhooks/{hook['id']}")
        listener.shutdown()
    assert heard == ["dataset.created", "dataset.created", "record.created"]


def test_records_change_their_status_after_a_change_of_distribution_by_the_job_worker(
    argilla_server: Server, argilla_home: ServerHome
) -> None:
    owner, reviewer = Api(argilla_server, "owner"), Api(argilla_server, "reviewer-a")
    dataset = owner.dataset("redistributed", SMALL, overlap=2)
    rows = [{"external_id": key, "fields": {"question": key}} for key in ("said", "unsaid")]
    records = owner.push(dataset, rows)
    reviewer.answer(records["said"], "submitted", fidelity=4)

    def completed() -> list[str]:
        return owner.search(dataset, filters=[terms("status", "completed")]).ids

    def ask(overlap: int) -> None:
        distribution = {"strategy": "overlap", "min_submitted": overlap}
        owner.call("PATCH", f"datasets/{dataset}", {"distribution": distribution})

    assert completed() == []
    worker = psutil.Process(argilla_home.state()["worker"])
    worker.suspend()
    try:
        ask(1)
        time.sleep(0.5)
        assert completed() == [], "no other than the worker changes it"
    finally:
        worker.resume()
    waited(lambda: completed() == ["said"])
    assert owner.call("GET", f"datasets/{dataset}/progress")["completed"] == 1
    ask(2)
    waited(lambda: completed() == [])


def test_rows_are_imported_by_the_job_worker_and_found(
    argilla_server: Server, tmp_path: Path
) -> None:
    rows = [{"name": "a", "asked": "row 20 kg?"}, {"name": "b", "asked": "lunge with a sore knee?"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(lines, encoding="utf-8")
    owner = Api(argilla_server, "owner")
    dataset = owner.dataset("imported", SMALL, overlap=1)
    # Argilla loads it with `datasets`, which takes a folder where it takes the name of a hub's.
    mapping = {"fields": [{"source": "asked", "target": "question"}], "external_id": "name"}
    body = {"name": str(tmp_path), "subset": "default", "split": "train", "mapping": mapping}
    owner.call("POST", f"datasets/{dataset}/import", body)
    waited(lambda: owner.search(dataset, "lunge").ids == ["b"])
    assert owner.search(dataset).total == 2


def test_a_taken_port_is_refused_or_avoided_and_an_open_host_warned_of(
    home: ServerHome, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            start(home, [], port=port)
        assert status(home).stage == "stopped"
        home.state_file.write_text(json.dumps({"port": port}))
        server = start(home, [], host="0.0.0.0")
    assert server.port != port
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert "Argilla will listen on 0.0.0.0, open to other machines" in caplog.text
    addresses = [one.address for part in psutil.net_if_addrs().values() for one in part]
    shared = shared_url(home, f"{server.url}/dataset/1")
    host = urlsplit(shared).hostname or ""
    assert shared == f"http://{host}:{server.port}/dataset/1" and host in addresses
    others = [one for one in addresses if re.fullmatch(r"[\d.]+", one) and one[:4] != "127."]
    assert host in (others or ["127.0.0.1"]), "others can open it"


def test_a_clean_stop_leaves_nothing_and_a_new_start_knows_the_new_reviewer(
    home: ServerHome,
) -> None:
    first = start(home, ["reviewer-a"])
    processes = household(first.pid)
    assert len(processes) >= 3  # server, worker, Redis
    assert stop(home) is True
    assert alive(processes) == []
    assert (status(home).stage, stop(home)) == ("stopped", False)
    assert not (home.path / "tmp").exists()
    with contextlib.closing(sqlite3.connect(home.database)) as database:
        database.execute("PRAGMA user_version = 1")  # as an older engine's tables would say
    second = start(home, ["reviewer-a", "검토자-다"])  # whose engine's tables are made anew
    assert second.logins["reviewer-a"].api_key == first.logins["reviewer-a"].api_key
    assert Api(second, "검토자-다").call("GET", "me")["role"] == "annotator"
    owner = Api(second, "owner")
    dataset = owner.dataset("after", SMALL, overlap=1)
    owner.push(dataset, [{"external_id": "a", "fields": {"question": "lunge"}}])
    assert owner.search(dataset, "lunge").ids == ["a"]
    assert second.logins.keys() == {*first.logins, "검토자-다"}
    assert "검토자-다" not in first.logins


def test_kill_9_of_worker_or_server_loses_no_response_and_leaves_no_orphan(
    home: ServerHome,
) -> None:
    server = start(home, ["reviewer-a"])
    worker = home.state()["worker"]
    os.kill(worker, signal.SIGKILL)
    waited(lambda: home.state().get("worker") not in (worker, None))
    assert home.state()["worker"] in [p.pid for p in household(server.pid)]
    owner, reviewer_a = Api(server, "owner"), Api(server, "reviewer-a")
    dataset = owner.dataset("killed", SMALL, overlap=1)
    rows = [{"external_id": f"{i:02}", "fields": {"question": f"n{i}"}} for i in range(20)]
    records = owner.push(dataset, rows)
    for record in records.values():
        reviewer_a.answer(record, "submitted", fidelity=4)
    processes = household(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    waited(lambda: alive(processes) == [])
    assert (
        status(home).stage == "stopped"
    )  # server.json still says ready, but nobody holds the home
    again = start(home, ["reviewer-a"])
    mine = Api(again, "reviewer-a").call("GET", f"me/datasets/{dataset}/metrics")["responses"]
    assert (mine["submitted"], mine["pending"]) == (20, 0)
    assert Api(again, "owner").search(dataset, "n7").ids == ["07"]


def test_a_server_that_cannot_start_says_why_in_one_line(home: ServerHome) -> None:
    Path(f"{home.database}-wal").unlink(missing_ok=True)
    home.database.write_bytes(b"this is no database, but long enough to be read as one" * 40)
    with pytest.raises(UserError) as caught:
        start(home, [])
    line = caught.value.line()
    assert "ended with exit code" in line
    assert "not a database" in line
    assert str(home.log) in line
    assert status(home).stage == "stopped"


def test_a_missing_environment_says_make_setup(
    home: ServerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONA_ARGILLA_PYTHON", "/nowhere/bin/python")
    with pytest.raises(UserError, match="run `make setup`"):
        start(home, [])


def test_the_home_is_in_the_users_data_folder_or_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ServerHome.default().path == tmp_path / "persona-workbench" / "argilla"
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "named"))
    assert ServerHome.default().path == tmp_path / "named"
