"""A round reviewed by hand on a real server: gold and pairs in the push, an adjudicator's word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from curation.review.connection import Connection, connected
from curation.review.gold import read_gold
from curation.review.pairs import as_candidate
from curation.review.policy import Policy
from curation.review.remote import existing_dataset, records_of
from curation.server import Server, ServerHome, start
from tests.curation.review_team import REVIEWERS, answer, owner_of, reviewers_of, seeds
from tests.workbench.cli.desk import Desk
from workbench.records import Decision, Example, Preference, Response, Review, user_prompt
from workbench.store import read_records

pytestmark = pytest.mark.slow
NAME = "gym-trainer-round-001"


@pytest.fixture
def server(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("PERSONA_ARGILLA_HOME", raising=False)
    assert desk.persona("review", "up").code == 0
    yield start(ServerHome(desk.runs / ".argilla"), REVIEWERS, reuse=True)
    desk.persona("review", "down")


def _fields(owner: Connection, dataset: str) -> dict[str, set[str]]:
    with connected(owner) as client:
        held = records_of(client, existing_dataset(client, owner, dataset))
    return {one["external_id"]: set(one["fields"]) for one in held}


def test_people_review_rows_pairs_and_gold_and_an_adjudicator_settles_the_rest(
    desk: Desk, server: Server
) -> None:
    rows = seeds(desk.repo / "datasets" / "gym-trainer")[:3]
    pair = Preference(
        prompt=user_prompt("Is walking enough?"),
        chosen=f"{rows[0].answer} Walk.",
        rejected="Walking is nothing.",
        origin="imported",
    )
    desk.put("filter/examples.jsonl", rows)
    desk.put("filter/preferences.jsonl", [pair])
    bare = [Response(arm="bare", prompt_id=r.id, prompt=r.prompt, text="Hm.") for r in rows]
    desk.put("generate/bare.jsonl", bare)
    owner, logins = owner_of(server), reviewers_of(server)
    one, two = (logins[name] for name in REVIEWERS)

    assert desk.persona("review", "push", "--reviewers-per-record", "2").code == 0
    again = desk.persona("review", "push")
    assert "0 rows pushed, 12 were there" in again.err
    gold = read_gold(desk.repo / "datasets" / "gym-trainer", Policy()).outcomes
    shown = as_candidate(pair)
    fields = _fields(owner, NAME)
    assert set(fields) == {*(row.id for row in rows), shown.id, *gold}
    assert fields[shown.id] == {"question", "answer_a", "answer_b"}

    for login in (one, two):
        answer(login, NAME, rows[0].id, fidelity=5)
        for record in gold:
            answer(login, NAME, record, fidelity=5)
        answer(login, NAME, shown.id, fidelity=4, better="tie")
    answer(one, NAME, rows[1].id, fidelity=5)
    answer(two, NAME, rows[1].id, fidelity=1, problems=["wrong_fact"], note="not so")
    assert desk.persona("review", "pull").code == 0
    reviews = list(read_records(desk.folder() / "review/reviews.jsonl", Review))
    assert {review.record for review in reviews} == {rows[0].id, rows[1].id, shown.id}
    on_gold = list(read_records(desk.folder() / "review/gold-reviews.jsonl", Review))
    assert len(on_gold) == 2 * len(gold)

    said = desk.persona("review", "adjudicate")
    assert f"{NAME}-queue: 1 rows pushed, 0 were there" in said.out
    answer(one, f"{NAME}-queue", rows[1].id, fidelity=5)
    assert desk.persona("review", "pull").code == 0
    assert desk.persona("review", "resolve").code == 0
    path = desk.folder() / "resolve/decisions.jsonl"
    decided = {d.record: d.outcome for d in read_records(path, Decision)}
    assert decided == {
        rows[0].id: "keep",
        rows[1].id: "keep",
        rows[2].id: "drop",
        shown.id: "keep",
    }
    kept = {row.id for row in read_records(desk.folder() / "resolve/examples.jsonl", Example)}
    assert rows[1].id in kept and kept.isdisjoint(gold)
    story = desk.persona("review", "why", rows[1].id).out
    assert "adjudicated: rv-" in story
    assert "nothing is unsettled" in desk.persona("review", "adjudicate").out
