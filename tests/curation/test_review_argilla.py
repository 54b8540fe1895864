"""Push, recorded reviews, pull, progress and the queue against the real Argilla server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from curation.review.connection import Connection, connected
from curation.review.dataset import Shape, seal_of, settings
from curation.review.policy import Policy
from curation.review.progress import status
from curation.review.pull import pull
from curation.review.push import push
from curation.review.queue import push_queue
from curation.review.recorded import submit_recorded
from curation.review.remote import existing_dataset, records_of
from curation.review.resolve import resolve
from curation.server import Server, ServerHome, start
from workbench.errors import UserError
from workbench.persona import Persona, load_persona
from workbench.records import Example, user_prompt

REVIEWERS = ("reviewer-1", "reviewer-2")


@pytest.fixture(scope="module")
def server(argilla_server: Server, argilla_home: ServerHome) -> Server:
    """The folder's server, with accounts for the reviewers of the recorded reviews."""
    return start(argilla_home, REVIEWERS, reuse=True)


@pytest.fixture(scope="module")
def owner(server: Server) -> Connection:
    return Connection(server.url, server.owner_api_key)


@pytest.fixture(scope="module")
def logins(server: Server) -> dict[str, Connection]:
    """Every reviewer's connection, also of those that other tests have asked for."""
    return {
        name: Connection(server.url, login.api_key)
        for name, login in server.logins.items()
        if login.api_key != server.owner_api_key
    }


@pytest.fixture(scope="module")
def coach(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer")


@pytest.fixture(scope="module")
def korean(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer-ko")


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
    login: Connection, dataset: str, record: str, state: str = "submitted", **values: Any
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
        body = {"status": state, "values": given}
        api.post(f"records/{ids[record]}/responses", json=body).raise_for_status()


def test_push_twice_adds_nothing_twice_and_a_later_row_is_added(
    owner: Connection, coach: Persona
) -> None:
    rows = few(5)
    first = push(owner, coach, "round-001", rows[:4], reviewers_per_record=2)
    again = push(owner, coach, "round-001", rows, reviewers_per_record=2)
    assert (first.dataset, first.new, first.already) == ("gym-trainer-round-001", 4, 0)
    assert (again.new, again.already) == (1, 4)
    with connected(owner) as client:
        held = records_of(client, existing_dataset(client, owner, first.dataset))
    assert sorted(one["external_id"] for one in held) == sorted(row.id for row in rows)


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


@pytest.mark.parametrize(("name", "every"), [("gym-trainer", 3), ("gym-trainer-ko", 9)])
def test_recorded_reviews_come_back_as_they_were_written(
    owner: Connection, logins: dict[str, Connection], repo: Path, name: str, every: int
) -> None:
    folder = repo / "datasets" / name
    persona = load_persona(folder)
    rows = seeds(folder)
    pushed = rows[5::every]  # the others were dropped before
    push(owner, persona, "round-010", pushed, reviewers_per_record=2, exemplars=rows[:3])
    done = submit_recorded(folder, persona, "round-010", pushed, logins)
    dropped = len(rows) - len(pushed)
    assert (done.new, done.already, done.left_out) == (2 * len(pushed), 0, 2 * dropped)
    reviews = pull(owner, persona, "round-010")
    again = submit_recorded(folder, persona, "round-010", pushed, logins)
    assert (again.new, again.already) == (0, 2 * len(pushed))
    assert pull(owner, persona, "round-010") == reviews

    by_source = {row.id: int(row.source.split(":")[1]) for row in rows}
    written = {}
    for line in (folder / "reviews.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        one["problems"] = sorted(one["problems"])
        written[one.pop("row"), one.pop("reviewer")] = one
    assert len(reviews) == done.new
    for review in reviews:
        assert review.answers == written[by_source[review.record], review.reviewer]
        assert review.status == "submitted" and review.at.endswith("+00:00")
    assert [(r.record, r.reviewer) for r in reviews] == sorted(
        (r.record, r.reviewer) for r in reviews
    )
    progress = status(owner, persona, "round-010")
    assert (progress.total, progress.completed) == (len(pushed), len(pushed))
    assert progress.enough() and progress.reviewers["reviewer-1"].done == len(pushed)


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


def test_discards_are_kept_drafts_are_left_out_and_progress_counts_both(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(3)
    name = push(owner, coach, "round-003", rows, reviewers_per_record=2).dataset
    one, two = (logins[who] for who in REVIEWERS)
    answer(one, name, rows[0].id, fidelity=4, problems=["emoji"], corrected="Champ!", note="why")
    answer(one, name, rows[1].id, "discarded")
    answer(two, name, rows[0].id, "draft", fidelity=1)
    reviews = pull(owner, coach, "round-003")
    found = {(r.record, r.reviewer): (r.status, r.answers["fidelity"]) for r in reviews}
    assert found == {
        (rows[0].id, "reviewer-1"): ("submitted", 4),
        (rows[1].id, "reviewer-1"): ("discarded", None),
    }
    progress = status(owner, coach, "round-003")
    mine, other = progress.reviewers["reviewer-1"], progress.reviewers["reviewer-2"]
    assert (mine.submitted, mine.discarded, mine.left) == (1, 1, 1)
    assert (other.submitted, other.drafts, other.left) == (0, 1, 3)
    assert (progress.total, progress.completed, progress.enough()) == (3, 0, False)


def test_enough_is_a_share_or_nothing_left_to_do(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(2)
    name = push(owner, coach, "round-004", rows, reviewers_per_record=1).dataset
    answer(logins["reviewer-1"], name, rows[0].id, fidelity=5)
    half = status(owner, coach, "round-004")
    assert half.enough(0.5) and not half.enough()
    # Nobody can complete a record that all discarded: the round must not wait for it.
    for login in logins.values():
        answer(login, name, rows[1].id, "discarded")
    assert status(owner, coach, "round-004").enough()


def test_better_answer_of_a_pair_comes_back_whatever_its_place_was(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(8)
    rivals = {row.id: "Another answer." for row in rows}
    name = push(owner, coach, "round-005", rows, reviewers_per_record=1, rivals=rivals).dataset
    with connected(owner) as client:
        held = records_of(client, existing_dataset(client, owner, name))
    for record in held:
        place = "a" if record["fields"]["answer_a"] == "Another answer." else "b"
        answer(logins["reviewer-1"], name, record["external_id"], fidelity=4, better=place)
    assert len({record["metadata"]["order"] for record in held}) == 2
    assert {r.answers["better"] for r in pull(owner, coach, "round-005")} == {"rival"}


def test_annotators_do_not_see_which_answer_of_a_pair_is_the_candidate(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(1)
    name = push(
        owner, coach, "round-006", rows, reviewers_per_record=1, rivals={rows[0].id: "Other."}
    ).dataset
    login = logins["reviewer-1"]
    headers = {"X-Argilla-Api-Key": login.api_key}
    with httpx.Client(base_url=f"{login.url}/api/v1/", headers=headers, trust_env=False) as api:
        (found,) = (d["id"] for d in api.get("me/datasets").json()["items"] if d["name"] == name)
        url = f"me/datasets/{found}/records/search?include=suggestions"
        (item,) = api.post(url, json={}).json()["items"]
    assert set(item["record"]["metadata"]) == {"topic", "length", "origin", "round"}
    assert item["record"]["suggestions"] == []


def test_queue_shows_both_opinions_and_its_answer_is_final(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(2)
    name = push(owner, coach, "round-007", rows, reviewers_per_record=2).dataset
    one, two = (logins[who] for who in REVIEWERS)
    for row in rows:
        answer(one, name, row.id, fidelity=5)
    answer(two, name, rows[0].id, fidelity=5)
    answer(two, name, rows[1].id, fidelity=1, problems=["wrong_fact"], note="not so")
    reviews, policy = pull(owner, coach, "round-007"), Policy(unsettled="queue")
    waiting = resolve(coach, rows, reviews, policy, {})
    assert [decision.record for decision in waiting.queue] == [rows[1].id]
    pushed = push_queue(owner, coach, "round-007", rows, reviews, waiting.queue)
    assert pushed is not None and (pushed.dataset, pushed.new) == (f"{name}-queue", 1)
    with connected(owner) as client:
        (shown,) = records_of(client, existing_dataset(client, owner, pushed.dataset))
    assert shown["fields"]["opinions"] == (
        "reviewer-1: 5/5\n\nreviewer-2: 1/5\nProblems: Wrong fact\nNote: not so"
    )
    answer(one, pushed.dataset, rows[1].id, fidelity=2)
    final = pull(owner, coach, "round-007", queue=True)
    settled = resolve(coach, rows, reviews, policy, {}, adjudications=final)
    assert settled.queue == []
    assert [(drop.record, drop.reason) for drop in settled.drops] == [(rows[1].id, "low_fidelity")]
    assert push_queue(owner, coach, "round-007", rows, reviews, []) is None


def test_wrong_key_foreign_account_and_missing_round_are_one_line(
    server: Server, owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    with pytest.raises(UserError, match="the API key is not valid there") as error:
        pull(Connection(server.url, "wrong"), coach, "round-001")
    assert "wrong" not in error.value.line()
    with pytest.raises(UserError, match="this account may not do that"):
        push(logins["reviewer-1"], coach, "round-099", few(1), reviewers_per_record=1)
    with pytest.raises(UserError, match="no dataset 'gym-trainer-round-098'"):
        pull(owner, coach, "round-098")
    with pytest.raises(UserError, match="does not answer"):
        pull(Connection("http://127.0.0.1:9", "key"), coach, "round-001")


class _Relay(BaseHTTPRequestHandler):
    """Hands requests on to the real server until one whose path holds ``cut``; then it is gone."""

    target: ClassVar[str] = ""
    cut: ClassVar[str] = "\0"
    version: ClassVar[str] = ""

    def _hand_on(self) -> None:
        if self.cut in self.path:
            self.connection.close()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower().startswith("x-argilla")}
        headers["Content-Type"] = "application/json"
        with httpx.Client(trust_env=False) as api:
            found = api.request(
                self.command, self.target + self.path, content=body, headers=headers
            )
        content = found.content
        if self.version and self.path.endswith("/version"):
            content = json.dumps({"version": self.version}).encode()
        self.send_response(found.status_code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = _hand_on

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def relay(target: str, **behaviour: str) -> Iterator[str]:
    handler = type("Relay", (_Relay,), {"target": target, **behaviour})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


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


def test_guide_and_titles_are_in_the_language_of_the_persona(
    owner: Connection, korean: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone
        made = settings(korean, (), Shape(), min_submitted=2)
        assert made.guidelines.startswith(f"# {korean.name}: 검토 안내")
        assert made.fields["question"].title == "질문"
        assert made.questions["problems"].title == "무엇이 잘못됐나요?"
        assert made.questions["problems"].labels == list(korean.problems)
        assert made.metadata["topic"].title == "주제"


def test_settings_for_single_answers_ask_nothing_about_pairs(
    owner: Connection, coach: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone
        made = settings(coach, (), Shape(), min_submitted=3)
        assert [field.name for field in made.fields] == ["question", "answer"]
        names = [question.name for question in made.questions]
        assert names == ["fidelity", "problems", "corrected", "note"]
        assert [question.required for question in made.questions] == [True, False, False, False]
        assert made.distribution.min_submitted == 3


def test_order_of_a_pair_is_metadata_that_annotators_do_not_see(
    owner: Connection, coach: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone
        made = settings(coach, (), Shape(pairs=True), min_submitted=2)
        assert made.metadata["order"].visible_for_annotators is False
        assert made.metadata["topic"].visible_for_annotators is True
        assert made.questions["better"].labels == ["a", "b", "tie", "both_bad"]


def test_seal_changes_with_the_specification_and_with_what_is_asked(
    owner: Connection, coach: Persona
) -> None:
    with connected(owner):  # the SDK makes settings with a client alone

        def seal(persona: Persona, shape: Shape, reviewers: int = 2) -> str:
            return seal_of(settings(persona, (), shape, min_submitted=reviewers).guidelines)

        first = seal(coach, Shape())
        assert len(first) == 16
        assert seal(coach, Shape()) == first and seal(coach, Shape(), reviewers=3) == first
        assert seal(coach.model_copy(update={"must": ("Rhyme.",)}), Shape()) != first
        assert seal(coach, Shape(pairs=True)) != first
