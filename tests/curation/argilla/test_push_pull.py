"""Push, recorded reviews, pull, progress and the queue against the real Argilla server."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import httpx
import pytest

from curation.argilla.client import (
    Connection,
    connected,
    existing_dataset,
    post,
    records_of,
)
from curation.argilla.pull import pull, review_progress
from curation.argilla.push import push, push_queue
from curation.argilla.recorded import submit_recorded
from curation.argilla.server import ServerHome, start
from curation.argilla.server_link import accounts_of
from curation.review.resolve import resolve
from tests.curation.review_team import REVIEWERS, answer, few, seeds
from workbench.config import Policy
from workbench.errors import UserError
from workbench.persona import Persona, load_persona
from workbench.records import Message, Review, Role, user_prompt
from workbench.store import read_records, write_records


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


def test_rows_of_another_shape_that_come_later_are_shown_or_refused_with_the_reason(
    owner: Connection, coach: Persona
) -> None:
    plain, paired = few(2)
    push(owner, coach, "round-014", [plain], reviewers_per_record=1)
    turns: tuple[tuple[Role, str], ...] = (
        ("user", "Sore."),
        ("assistant", "Since when?"),
        ("user", "Today."),
    )
    talk = plain.evolve(prompt=tuple(Message(role=role, content=text) for role, text in turns))
    later = push(owner, coach, "round-014", [plain, talk], reviewers_per_record=1)
    assert (later.new, later.already) == (1, 1)
    with connected(owner) as client:
        dataset = existing_dataset(client, owner, later.dataset)
        held = {one["external_id"]: one["fields"] for one in records_of(client, dataset)}
    assert held[talk.id] == {
        "question": "Person: Sore.\n\nCoach: Since when?\n\nPerson: Today.",
        "answer": plain.answer,
    }
    with pytest.raises(UserError, match="without a field for rows' second answer"):
        two = {paired.id: "Other."}
        push(owner, coach, "round-014", [paired], reviewers_per_record=1, alternatives=two)
    shown = paired.evolve(prompt=user_prompt("![a](data:image/png;base64,AA)?"))
    with pytest.raises(UserError, match=r"rows' picture.*import those rows into a new round"):
        push(owner, coach, "round-014", [shown], reviewers_per_record=1)


def test_a_push_in_order_is_met_in_it_and_so_are_rows_of_a_larger_budget(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(32)[::-1]
    for pushed in (rows[:26], rows):
        name = push(
            owner, coach, "round-084", pushed, reviewers_per_record=2, in_order=True
        ).dataset
    for login in (logins[reviewer] for reviewer in REVIEWERS[:2]):
        with connected(login) as client:
            at = existing_dataset(client, login, name).id
            searched = post(client, f"me/datasets/{at}/records/search?limit=50", {})["items"]
        assert [one["record"]["external_id"] for one in searched] == [row.id for row in rows]


@pytest.mark.parametrize(("name", "every"), [("gym-trainer", 3), ("gym-trainer-ko", 9)])
def test_recorded_reviews_come_back_as_they_were_written(
    owner: Connection, logins: dict[str, Connection], repo: Path, name: str, every: int
) -> None:
    folder = repo / "datasets" / name
    persona = load_persona(folder)
    rows = seeds(folder)
    pushed = rows[5::every]  # the others were dropped before
    push(owner, persona, "round-010", pushed, reviewers_per_record=2, few_shot=rows[:3])
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
        del one["record"]
        written[one.pop("row"), one.pop("reviewer")] = one
    assert len(reviews) == done.new
    for review in reviews:
        assert review.answers == written[by_source[review.record], review.reviewer]
        assert review.status == "submitted" and review.at.endswith("+00:00")
    assert [(r.record, r.reviewer) for r in reviews] == sorted(
        (r.record, r.reviewer) for r in reviews
    )
    progress = review_progress(owner, persona, "round-010")
    assert (progress.total, progress.completed) == (len(pushed), len(pushed))
    assert progress.enough() and progress.reviewers["reviewer-1"].done == len(pushed)


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
    progress = review_progress(owner, coach, "round-003")
    mine, other = progress.reviewers["reviewer-1"], progress.reviewers["reviewer-2"]
    assert (mine.submitted, mine.discarded, mine.left) == (1, 1, 1)
    assert (other.submitted, other.drafts, other.left) == (0, 1, 3)
    assert (progress.total, progress.completed, progress.enough()) == (3, 0, False)


def test_enough_is_every_record_or_nothing_left_to_do(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(2)
    name = push(owner, coach, "round-004", rows, reviewers_per_record=1).dataset
    answer(logins["reviewer-1"], name, rows[0].id, fidelity=5)
    half = review_progress(owner, coach, "round-004")
    assert (half.completed, half.total, half.enough()) == (1, 2, False)
    # Nobody can complete a record that all discarded: the round must not wait for it.
    # The server is shared: other tests' reviewers are members of its workspace too.
    accounts = accounts_of(owner)
    for reviewer in half.reviewers:
        login = Connection(owner.url, accounts[reviewer].api_key)
        answer(login, name, rows[1].id, "discarded")
    assert review_progress(owner, coach, "round-004").enough()


def test_a_reviewer_of_one_persona_neither_sees_nor_is_counted_for_another(
    owner: Connection, argilla_home: ServerHome, coach: Persona
) -> None:
    """The Korean trainer's people have nothing to do with the English one's rows."""
    other = coach.model_copy(update={"id": "apart-ko"})
    server = start(argilla_home, ["only-en", "only-ko"], reuse=True)
    for persona, name in ((coach, "only-en"), (other, "only-ko")):
        push(owner, persona, "round-060", few(2), reviewers_per_record=1, reviewers=[name])
    progress = review_progress(owner, other, "round-060")
    assert (list(progress.reviewers), progress.needed) == (["only-ko"], 2)
    assert "only-ko" not in review_progress(owner, coach, "round-060").reviewers
    login = Connection(owner.url, server.logins["only-ko"].api_key)
    with connected(login) as client:
        assert {dataset.name for dataset in client.datasets} == {progress.dataset}
    answer(login, progress.dataset, few(2)[0].id, fidelity=5)
    assert review_progress(owner, other, "round-060").needed == 1
    push(owner, other, "round-060", few(3), reviewers_per_record=1, reviewers=["only-en"])
    assert list(review_progress(owner, other, "round-060").reviewers) == ["only-en", "only-ko"]


def test_better_answer_of_a_pair_comes_back_whatever_its_place_was(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(8)
    alternatives = {row.id: "Another answer." for row in rows}
    name = push(
        owner, coach, "round-005", rows, reviewers_per_record=1, alternatives=alternatives
    ).dataset
    with connected(owner) as client:
        held = records_of(client, existing_dataset(client, owner, name))
    for record in held:
        place = "a" if record["fields"]["answer_a"] == "Another answer." else "b"
        answer(logins["reviewer-1"], name, record["external_id"], fidelity=4, better=place)
    assert len({record["metadata"]["order"] for record in held}) == 2
    assert {r.answers["better"] for r in pull(owner, coach, "round-005")} == {"alternative"}


def test_annotators_do_not_see_which_answer_of_a_pair_is_the_candidate(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(1)
    name = push(
        owner, coach, "round-006", rows, reviewers_per_record=1, alternatives={rows[0].id: "Other."}
    ).dataset
    login = logins["reviewer-1"]
    headers = {"X-Argilla-Api-Key": login.api_key}
    with httpx.Client(base_url=f"{login.url}/api/v1/", headers=headers, trust_env=False) as api:
        (found,) = (d["id"] for d in api.get("me/datasets").json()["items"] if d["name"] == name)
        url = f"me/datasets/{found}/records/search?include=suggestions"
        (item,) = api.post(url, json={}).json()["items"]
    assert set(item["record"]["metadata"]) == {"topic", "length", "origin", "round"}
    assert item["record"]["suggestions"] == []


def test_two_answers_of_the_same_text_are_shown_as_one(owner: Connection, coach: Persona) -> None:
    (row,) = few(1)
    same = {row.id: row.answer + " "}
    name = push(owner, coach, "round-013", [row], reviewers_per_record=1, alternatives=same).dataset
    with connected(owner) as client:
        (held,) = records_of(client, existing_dataset(client, owner, name))
    assert set(held["fields"]) == {"question", "answer"}


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
    queue, notes = {row.id for row in rows}, {rows[0].id: "ann: it is right"}
    pushed = push_queue(owner, coach, "round-007", rows, reviews, queue, notes=notes)
    assert pushed is not None and (pushed.dataset, pushed.new) == (f"{name}-queue", 2)
    with connected(owner) as client:
        held = records_of(client, existing_dataset(client, owner, pushed.dataset))
    opinions = {shown["external_id"]: shown["fields"]["opinions"] for shown in held}
    assert opinions == {
        rows[0].id: "It was dropped, and somebody says it should stay: ann: it is right\n\n"
        "reviewer-1: 5/5\n\nreviewer-2: 5/5",
        rows[1].id: "reviewer-1: 5/5\n\nreviewer-2: 1/5\nProblems: Wrong fact\nNote: not so",
    }
    answer(one, pushed.dataset, rows[1].id, fidelity=2)
    final = pull(owner, coach, "round-007", queue=True)
    settled = resolve(coach, rows, reviews, policy, {}, adjudications=final)
    assert settled.queue == []
    assert [(drop.record, drop.reason) for drop in settled.drops] == [(rows[1].id, "low_fidelity")]
    assert push_queue(owner, coach, "round-007", rows, reviews, set()) is None


def test_pulls_while_people_label_lose_nothing_and_two_at_rest_give_the_same_file(
    owner: Connection, logins: dict[str, Connection], coach: Persona, tmp_path: Path
) -> None:
    rows = few(12)
    name = push(owner, coach, "round-011", rows, reviewers_per_record=2).dataset

    def label(who: str) -> None:
        for row in rows:
            answer(logins[who], name, row.id, fidelity=4)

    people = [threading.Thread(target=label, args=(who,)) for who in REVIEWERS]
    for person in people:
        person.start()
    seen: list[set[tuple[str, str]]] = []
    while any(person.is_alive() for person in people):
        seen.append({(r.record, r.reviewer) for r in pull(owner, coach, "round-011")})
    for person in people:
        person.join()
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for file in files:
        write_records(file, pull(owner, coach, "round-011"))
    assert files[0].read_bytes() == files[1].read_bytes()
    seen.append({(r.record, r.reviewer) for r in read_records(files[0], Review)})
    assert all(before <= after for before, after in itertools.pairwise(seen))
    assert seen[-1] == {(row.id, who) for row in rows for who in REVIEWERS}


def test_a_reviewer_sees_no_other_reviewers_answers(
    owner: Connection, logins: dict[str, Connection], coach: Persona
) -> None:
    rows = few(1)
    name = push(owner, coach, "round-012", rows, reviewers_per_record=2).dataset
    one, two = (logins[who] for who in REVIEWERS)
    answer(one, name, rows[0].id, fidelity=1, note="mine")
    headers = {"X-Argilla-Api-Key": two.api_key}
    with httpx.Client(base_url=f"{two.url}/api/v1/", headers=headers, trust_env=False) as api:
        (found,) = (d["id"] for d in api.get("me/datasets").json()["items"] if d["name"] == name)
        url = f"me/datasets/{found}/records/search?include=responses"
        (item,) = api.post(url, json={}).json()["items"]
        assert item["record"]["responses"] == []
        assert api.get(f"datasets/{found}/records?include=responses").status_code == 403
    with pytest.raises(UserError, match="this account may not do that"):
        pull(two, coach, "round-012")
