"""Whatever goes wrong between here and Argilla is one line, and nothing is lost."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from curation.argilla.client import Connection
from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.recorded import submit_recorded
from curation.argilla.server import Server
from tests.curation.relay import relay
from tests.curation.review_team import answer, few
from workbench.errors import UserError
from workbench.persona import Persona


def test_reviewer_without_an_account_is_one_line(
    logins: dict[str, Connection], coach: Persona, repo: Path
) -> None:
    with pytest.raises(UserError, match="no account for the reviewer reviewer-2"):
        submit_recorded(
            repo / "datasets" / "gym-trainer",
            coach,
            "round-010",
            [],
            {"reviewer-1": logins["reviewer-1"]},
        )


def test_changed_specification_after_the_push_is_one_line(
    owner: Connection, coach: Persona
) -> None:
    push(owner, coach, "round-002", few(1), reviewers_per_record=2)
    changed = coach.model_copy(update={"must": ("Rhyme.",)})
    with pytest.raises(UserError, match="pushed with another specification") as error:
        push(owner, changed, "round-002", few(2), reviewers_per_record=2)
    assert error.value.fix == "review it as it is, or start a new round with the changed persona"
    with pytest.raises(UserError, match="asks for 2 reviewers per record, not 3"):
        push(owner, coach, "round-002", few(2), reviewers_per_record=3)


def test_wrong_key_foreign_account_and_missing_round_are_one_line(
    argilla_server: Server, owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    with pytest.raises(UserError, match="the API key is not valid there") as error:
        pull(Connection(argilla_server.url, "wrong"), coach, "round-001")
    assert "wrong" not in error.value.line()
    with pytest.raises(UserError, match="this account may not do that"):
        push(logins["reviewer-1"], coach, "round-099", few(1), reviewers_per_record=1)
    with pytest.raises(UserError, match="no dataset 'gym-trainer-round-098'"):
        pull(owner, coach, "round-098")
    with pytest.raises(UserError, match="does not answer"):
        pull(Connection("http://127.0.0.1:9", "key"), coach, "round-001")


def test_server_gone_in_the_middle_of_a_pull_is_one_line_and_the_next_pull_is_whole(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(251)  # two pages
    name = push(owner, coach, "round-008", rows, reviewers_per_record=1).dataset
    answer(logins["reviewer-1"], name, rows[0].id, fidelity=5)
    with relay(owner.url, cut="offset=250") as url:
        with pytest.raises(UserError, match="does not answer") as error:
            pull(Connection(url, owner.api_key), coach, "round-008")
        assert "nothing is lost" in error.value.line()
        assert "\n" not in error.value.line() and owner.api_key not in error.value.line()
    assert [review.record for review in pull(owner, coach, "round-008")] == [rows[0].id]


def test_argilla_of_an_older_version_is_one_line(owner: Connection, coach: Persona) -> None:
    with (
        relay(owner.url, version="2.3.1") as url,
        pytest.raises(UserError, match=r"this is Argilla 2\.3\.1, and 2\.8 or newer is needed"),
    ):
        push(Connection(url, owner.api_key), coach, "round-009", few(1), reviewers_per_record=1)


def test_address_of_something_else_is_one_line(coach: Persona) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{httpd.server_port}"
        with pytest.raises(UserError, match="does not answer as an Argilla server does"):
            pull(Connection(url, "key"), coach, "round-001")
        httpd.shutdown()


def test_key_is_in_no_representation(owner: Connection) -> None:
    assert owner.api_key not in repr(owner)
