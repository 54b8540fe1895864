"""A round reviewed by hand on a real server: gold and pairs in the push, an adjudicator's word."""

from __future__ import annotations

import threading

import pytest

from curation.argilla.client import (
    Connection,
    connected,
    existing_dataset,
    find_dataset,
    records_of,
)
from curation.argilla.server import Server
from curation.review.pairs import as_candidate
from curation.review.reliability import read_gold
from rounds.context import RoundContext, open_context
from rounds.pipeline import run_spec, run_stages
from rounds.stages import review as stage_review
from rounds.stages.review import review_stage
from tests.commands import Commands
from tests.curation.review_team import REVIEWERS, answer, few, owner_of, reviewers_of, seeds
from tests.waiting import waited
from workbench.config import Policy
from workbench.records import Decision, Example, Preference, Response, Review, user_prompt
from workbench.store import read_records

ROUND = 101  # the server is that of all tests, which have other rounds of this persona
NAME = f"gym-trainer-round-{ROUND}"


@pytest.fixture
def server(reviewed_server: Server, commands: Commands) -> Server:
    assert commands.on_round("review", "up").code == 0
    return reviewed_server


def _fields(owner: Connection, dataset: str) -> dict[str, set[str]]:
    with connected(owner) as client:
        held = records_of(client, existing_dataset(client, owner, dataset))
    return {one["external_id"]: set(one["fields"]) for one in held}


def _open(owner: Connection, name: str) -> set[str]:
    """Wait for a dataset and return its records."""
    shown: set[str] = set()

    def holds_records() -> bool:
        with connected(owner) as client:
            dataset = find_dataset(client, name)
            held = records_of(client, dataset) if dataset is not None else []
        shown.update(one["external_id"] for one in held)
        return bool(shown)

    waited(holds_records)
    return shown


def _reviews(commands: Commands, number: int) -> list[Review]:
    return list(read_records(commands.folder(number) / "review/reviews.jsonl", Review))


def _ready(commands: Commands, number: int, rows: list[Example]) -> RoundContext:
    commands.put("filter/examples.jsonl", rows, number)
    commands.put("filter/preferences.jsonl", [], number)
    commands.put("generate/baseline.jsonl", [], number)
    commands.put("generate/preferences.jsonl", [], number)
    return open_context(runs=commands.runs, round_number=number)


def test_people_review_rows_pairs_and_gold_and_an_adjudicator_settles_the_rest(
    commands: Commands, server: Server
) -> None:
    rows = seeds(commands.repo / "datasets" / "gym-trainer")[:3]
    pair = Preference(
        prompt=user_prompt("Is walking enough?"),
        chosen=f"{rows[0].answer} Walk.",
        rejected="Walking is nothing.",
        origin="imported",
    )
    commands.put("filter/examples.jsonl", rows, ROUND)
    commands.put("filter/preferences.jsonl", [pair], ROUND)
    bare = [Response(arm="baseline", prompt_id=r.id, prompt=r.prompt, text="Hm.") for r in rows]
    commands.put("generate/baseline.jsonl", bare, ROUND)
    commands.put("generate/preferences.jsonl", [], ROUND)
    owner, logins = owner_of(server), reviewers_of(server)
    one, two = (logins[name] for name in REVIEWERS)

    assert (
        commands.on_round("review", "push", "--reviewers-per-record", "2", number=ROUND).code == 0
    )
    again = commands.on_round("review", "push", number=ROUND)
    assert "0 rows pushed, 12 there before" in again.err
    gold = read_gold(commands.repo / "datasets" / "gym-trainer", Policy()).outcomes
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
    assert commands.on_round("review", "pull", number=ROUND).code == 0
    assert {review.record for review in _reviews(commands, ROUND)} == {
        rows[0].id,
        rows[1].id,
        shown.id,
    }
    on_gold = list(read_records(commands.folder(ROUND) / "review/gold-reviews.jsonl", Review))
    assert len(on_gold) == 2 * len(gold)

    said = commands.on_round("review", "adjudicate", number=ROUND)
    assert f"{NAME}-queue: 1 row pushed, 0 there before" in said.out
    assert (
        f"{NAME}-queue: 0 of 1 adjudicated"
        in commands.on_round("review", "status", number=ROUND).out
    )
    answer(one, f"{NAME}-queue", rows[1].id, fidelity=5)
    told = commands.on_round("review", "status", number=ROUND).out
    assert f"{NAME}: 11 of 12 complete" in told and f"{NAME}-queue: 1 of 1 adjudicated" in told
    assert commands.on_round("review", "pull", number=ROUND).code == 0
    assert commands.on_round("review", "resolve", number=ROUND).code == 0
    path = commands.folder(ROUND) / "resolve/decisions.jsonl"
    decided = {d.record: d.outcome for d in read_records(path, Decision)}
    assert decided == {
        rows[0].id: "keep",
        rows[1].id: "keep",
        rows[2].id: "drop",
        shown.id: "keep",
    }
    kept = {
        row.id for row in read_records(commands.folder(ROUND) / "resolve/examples.jsonl", Example)
    }
    assert rows[1].id in kept and kept.isdisjoint(gold)
    story = commands.on_round("review", "why", rows[1].id, number=ROUND).out
    assert "adjudicated: rv-" in story
    assert "nothing is unsettled" in commands.on_round("review", "adjudicate", number=ROUND).out


def test_a_run_that_waits_for_people_waits_for_the_adjudicator_too(
    commands: Commands, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_review, "POLL_SECONDS", 0.2)
    rows = seeds(commands.repo / "datasets" / "gym-trainer")[:3]
    context = _ready(commands, ROUND + 1, rows).with_settings("review", people=True)
    name = f"gym-trainer-round-{ROUND + 1}"
    owner, logins = owner_of(server), reviewers_of(server)
    seen: list[set[str]] = []

    def label() -> None:
        shown = _open(owner, name)
        for reviewer, rating in zip(REVIEWERS, (5, 1), strict=True):
            for record in shown:
                fidelity = rating if record == rows[1].id else 5
                answer(logins[reviewer], name, record, fidelity=fidelity)
        seen.append(_open(owner, f"{name}-queue"))
        answer(logins[REVIEWERS[1]], f"{name}-queue", rows[1].id, fidelity=1)

    people = threading.Thread(target=label)
    people.start()
    counts = run_spec(context, review_stage(context)).manifest.counts
    people.join()
    assert seen == [{rows[1].id}]
    assert (counts["reviews"], counts["adjudications"], counts["complete"]) == (6, 1, True)


def test_a_row_that_no_recorded_review_knows_is_left_out_where_that_is_wanted(
    commands: Commands, server: Server
) -> None:
    recorded = seeds(commands.repo / "datasets" / "gym-trainer")[:2]
    _ready(commands, ROUND + 2, [*recorded, *few(1)])
    context = commands.context(ROUND + 2, review={"unreviewed": "leave_out"})
    first = run_spec(context, review_stage(context))
    reviewed = {review.record for review in _reviews(commands, ROUND + 2)}
    assert reviewed == {row.id for row in recorded}
    (again,) = run_stages(context, ["review"])
    assert (first.ran, again.ran) == (True, False)


def test_a_row_that_no_recorded_review_knows_waits_for_people(
    commands: Commands, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_review, "POLL_SECONDS", 0.2)
    recorded, added = seeds(commands.repo / "datasets" / "gym-trainer")[:2], few(1)
    context = _ready(commands, ROUND + 4, [*recorded, *added])
    name, owner, logins = f"gym-trainer-round-{ROUND + 4}", owner_of(server), reviewers_of(server)

    def label() -> None:
        _open(owner, name)
        for reviewer in REVIEWERS:
            answer(logins[reviewer], name, added[0].id, fidelity=5)

    people = threading.Thread(target=label)
    people.start()
    counts = run_spec(context, review_stage(context)).manifest.counts
    people.join()
    reviewed = [review.record for review in _reviews(commands, ROUND + 4)]
    assert sorted(reviewed) == sorted(2 * [row.id for row in (*recorded, *added)])
    assert (counts["unrecorded"], counts["complete"]) == (1, True)


def test_a_fresh_round_can_be_pushed_at_once(commands: Commands, server: Server) -> None:
    said = commands.on_round("review", "push", "--preset", "smoke", number=ROUND + 3)
    assert said.code == 0, said.err
    filtered = read_records(commands.folder(ROUND + 3) / "filter/examples.jsonl", Example)
    gold = read_gold(commands.repo / "datasets" / "gym-trainer", Policy()).outcomes
    held = _open(owner_of(server), f"gym-trainer-round-{ROUND + 3}")
    assert held == {row.id for row in filtered} | set(gold)
    assert not (commands.folder(ROUND + 3) / "generate").exists()
