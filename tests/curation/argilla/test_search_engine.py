"""The embedded search engine, asked through Argilla's own API: each semantic by its value."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import curation.argilla.server
from curation.argilla.server import Server, ServerHome, server_python
from tests.curation.argilla_api import Api, between, by, terms
from tests.curation.search_rows import RATING, ROWS, SETTINGS, SUGGESTIONS

ALL = list(ROWS)


@dataclass(frozen=True)
class Set:
    """A dataset of six rows, answered by both reviewers in part."""

    id: str
    records: dict[str, str]
    owner: Api
    reviewer_a: Api
    reviewer_b: Api


@pytest.fixture(scope="module")
def rows(argilla_server: Server) -> Set:
    owner, reviewer_a, reviewer_b = (
        Api(argilla_server, name) for name in ("owner", "reviewer-a", "reviewer-b")
    )
    dataset = owner.dataset("semantics", SETTINGS, overlap=2)
    questions = owner.call("GET", f"datasets/{dataset}/questions")["items"]
    named = {question["name"]: question["id"] for question in questions}
    items = []
    for name, row in ROWS.items():
        suggestions = [
            {
                "question_id": named[question],
                "value": value,
                "score": score,
                "agent": agent,
                "type": kind,
            }
            for question, (value, score, agent, kind) in SUGGESTIONS.get(name, {}).items()
        ]
        items.append({"external_id": name, **row, "suggestions": suggestions})
    records = owner.push(dataset, items)
    reviewer_a.answer(records["r0"], "submitted", fidelity=5, better="a")
    reviewer_a.answer(records["r1"], "draft", fidelity=2)
    reviewer_a.answer(records["r2"], "discarded")
    reviewer_b.answer(records["r0"], "submitted", fidelity=3, better="b")
    reviewer_b.answer(records["r3"], "submitted", fidelity=1, better="a", wrong=["fact"])
    return Set(dataset, records, owner, reviewer_a, reviewer_b)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("squat", "r0 r3", id="whole words, not Squats"),
        pytest.param("SQUAT Knee", "r0", id="all words, whatever their case"),
        pytest.param("knee", "r0 r2", id="upper case in the record"),
        pytest.param("뻐근 toe", "r2", id="each word in another field"),
        pytest.param("무릎", "r1 r4", id="a Korean noun under its particle"),
        pytest.param("무릎이", "r1", id="a Korean noun with its particle"),
        pytest.param("릎통", "", id="no Korean sequence across a space"),
        pytest.param("💪", "r0", id="emoji"),
        pytest.param("🏋", "r2", id="emoji under a skin tone"),
        pytest.param("don't", "r1", id="a typographic apostrophe"),
        pytest.param("3.5", "r2", id="a decimal number"),
        pytest.param("STRASSE", "", id="no spelling is guessed"),
        pytest.param("straße", "r4", id="chat text"),
        pytest.param("cafe", "", id="accents count, as in Argilla"),
        pytest.param("assistant", "r4", id="the role in a chat"),
        pytest.param("quokka", "r5", id="a value deep in a custom field"),
        pytest.param("zanz", "", id="no part of a Latin word"),
        pytest.param("zanz*", "r5", id="beginning of a word"),
        pytest.param('"bend less"', "r0", id="phrase"),
        pytest.param('"less bend"', "", id="phrase in the wrong order"),
        pytest.param('"knee toe"~1', "r2", id="phrase with one word between"),
        pytest.param("squat -knee", "r3", id="without"),
        pytest.param("-squat -무릎", "r2 r5", id="only without"),
        pytest.param("squat | 허리", "r0 r2 r3", id="either"),
        pytest.param("(quokka | sleep) long", "r3", id="grouped"),
        pytest.param('"over toe', "r2", id="a quotation mark left open"),
        pytest.param("((two", "r5", id="parentheses left open"),
        pytest.param("!!!", "", id="nothing but punctuation"),
        pytest.param("", "", id="an empty query"),
        pytest.param('x" OR words : "squat', "", id="no way into SQLite's own syntax"),
    ],
)
def test_a_text_query_finds_the_records_that_argilla_means(
    rows: Set, text: str, expected: str
) -> None:
    found = rows.owner.search(rows.id, text)
    assert (sorted(found.ids), found.total) == (expected.split(), len(expected.split()))


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [("answer", "squat", ["r3"]), ("question", "squat", ["r0"]), ("talk", "무릎", ["r4"])],
)
def test_a_text_query_keeps_to_its_field(
    rows: Set, field: str, text: str, expected: list[str]
) -> None:
    assert rows.owner.search(rows.id, text, field=field).ids == expected


def test_an_unknown_field_is_refused(rows: Set) -> None:
    assert rows.owner.search(rows.id, "squat", field="nowhere", status=422).ids == []


def test_the_best_match_comes_first(rows: Set) -> None:
    found = rows.owner.search(rows.id, "squat | sleep | slowly")
    assert found.ids == ["r3", "r0"]
    assert found.scores[0] is not None
    assert found.scores[1] is not None
    assert found.scores[0] > found.scores[1] > 0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (terms("metadata.topic", "knee"), "r0 r1"),
        (terms("metadata.topic", "pain", "sleep"), "r1 r3"),
        (terms("metadata.length", "10"), "r0"),
        (terms("metadata.share", "1.5", "none"), "r1"),
        (between("metadata.length", 20, 30), "r1 r2"),
        (between("metadata.share", ge=0), "r0 r1"),
        (terms("suggestion.fidelity.value", "5", "3"), "r0 r1"),
        (between("suggestion.fidelity.value", ge=3), "r0 r1"),
        (between("suggestion.fidelity.score", le=0.4), "r1 r2"),
        (terms("suggestion.fidelity.agent", "rules"), "r0 r2"),
        (terms("suggestion.fidelity.type", "human"), "r1"),
        (terms("suggestion.wrong.value", "fact"), "r1"),
        (between("suggestion.wrong.score", ge=0.5), "r1"),
        (terms("response", "submitted"), "r0 r3"),
        (terms("response", "draft", "discarded"), "r1 r2"),
        (terms("response", "pending"), "r4 r5"),
        (terms("response.fidelity", "5"), "r0"),
        (between("response.fidelity", 2, 3), "r0 r1"),
        (terms("response.better", "a"), "r0 r3"),
        (terms("response.wrong", "fact"), "r3"),
        (terms("status", "completed"), "r0"),
        (terms("external_id", "r4", "r9"), "r4"),
        (between("inserted_at", ge="2020-01-01T00:00:00"), " ".join(ALL)),
        (between("inserted_at", le="2020-01-01T00:00:00+09:00"), ""),
        (between("updated_at", le=1577836800000), ""),
    ],
    ids=lambda value: json.dumps(value["scope"]) if isinstance(value, dict) else "",
)
def test_a_filter_keeps_what_it_says(rows: Set, asked: dict[str, object], expected: str) -> None:
    found = rows.owner.search(rows.id, filters=[asked])
    assert (found.ids, found.total) == (expected.split(), len(expected.split()))


@pytest.mark.parametrize(
    ("who", "asked", "expected"),
    [
        ("reviewer-a", terms("response", "submitted"), "r0"),
        ("reviewer-a", terms("response", "pending"), "r3 r4 r5"),
        ("reviewer-a", terms("response", "pending", "draft"), "r1 r3 r4 r5"),
        ("reviewer-a", between("response.fidelity", le=3), "r1"),
        ("reviewer-b", terms("response", "pending"), "r1 r2 r4 r5"),
        ("reviewer-b", terms("response.fidelity", "5"), ""),
    ],
)
def test_a_reviewer_filters_by_their_own_responses(
    rows: Set, who: str, asked: dict[str, object], expected: str
) -> None:
    found = getattr(rows, who.replace("-", "_")).search(rows.id, filters=[asked])
    assert (sorted(found.ids), found.total) == (expected.split(), len(expected.split()))


def test_filters_and_text_hold_together(rows: Set) -> None:
    filters = [terms("metadata.topic", "knee", "sleep"), between("metadata.length", 5, 15)]
    assert rows.owner.search(rows.id, filters=filters).ids == ["r0"]
    assert rows.owner.search(rows.id, "squat", filters=filters[:1]).total == 2
    by_id = terms("id", rows.records["r2"], "not-an-id")
    assert rows.owner.search(rows.id, "knee", filters=[by_id]).ids == ["r2"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([by("metadata.length", "desc")], "r3 r2 r1 r0 r4 r5"),
        ([by("metadata.share")], "r3 r0 r1 r2 r4 r5"),
        ([by("metadata.topic"), by("metadata.length", "desc")], "r2 r1 r0 r3 r4 r5"),
        ([by("suggestion.fidelity.value")], "r2 r1 r0 r3 r4 r5"),
        ([by("suggestion.wrong.score", "desc")], "r1 r0 r2 r3 r4 r5"),
        ([by("suggestion.wrong.score")], "r1 r0 r2 r3 r4 r5"),
        ([by("suggestion.fidelity.agent"), by("external_id", "desc")], "r1 r2 r0 r5 r4 r3"),
        ([by("response.fidelity")], "r3 r1 r0 r2 r4 r5"),
        ([by("status"), by("inserted_at", "desc")], "r0 r5 r4 r3 r2 r1"),
    ],
)
def test_records_are_sorted_with_missing_values_last(
    rows: Set, keys: list[dict[str, object]], expected: str
) -> None:
    found = rows.owner.search(rows.id, sort=keys)
    assert found.ids == expected.split()
    assert found.scores == [None] * 6


def test_a_reviewer_sorts_by_their_own_responses(rows: Set) -> None:
    found = rows.reviewer_a.search(rows.id, sort=[by("response.fidelity", "desc")])
    assert found.ids[:2] == ["r0", "r1"]


def test_pages_know_the_exact_total(rows: Set) -> None:
    pages = [rows.owner.search(rows.id, page=f"limit=2&offset={at}") for at in (0, 2, 4, 9)]
    assert [page.ids for page in pages] == [["r0", "r1"], ["r2", "r3"], ["r4", "r5"], []]
    assert [page.total for page in pages] == [6, 6, 6, 6]


def test_progress_of_the_dataset_and_of_each_reviewer(rows: Set) -> None:
    progress = rows.owner.call("GET", f"datasets/{rows.id}/progress")
    assert {key: progress[key] for key in ("total", "completed", "pending")} == {
        "total": 6,
        "completed": 1,
        "pending": 5,
    }
    mine = {
        who.me: who.call("GET", f"me/datasets/{rows.id}/metrics")["responses"]
        for who in (rows.reviewer_a, rows.reviewer_b)
    }
    assert mine["reviewer-a"] == {
        "total": 6,
        "submitted": 1,
        "draft": 1,
        "discarded": 1,
        "pending": 3,
    }
    assert (mine["reviewer-b"]["submitted"], mine["reviewer-b"]["pending"]) == (2, 4)


def test_metadata_metrics(rows: Set) -> None:
    found = rows.owner.call("GET", f"me/datasets/{rows.id}/metadata-properties")["items"]
    metrics = {
        item["name"]: rows.owner.call("GET", f"metadata-properties/{item['id']}/metrics")
        for item in found
    }
    counted = [(value["term"], value["count"]) for value in metrics["topic"]["values"]]
    assert counted == [("knee", 2), ("back", 1), ("pain", 1), ("sleep", 1)]
    assert metrics["topic"]["total"] == 5
    assert (metrics["length"]["min"], metrics["length"]["max"]) == (10, 40)
    assert (metrics["share"]["min"], metrics["share"]["max"]) == (-1.0, 1.5)


def test_similar_by_value_most_and_least(rows: Set) -> None:
    most = rows.owner.search(rows.id, vector={"name": "meaning", "value": [3, 0, 0]})
    assert most.ids == ["r0", "r1", "r2", "r3"]
    assert most.scores == pytest.approx([1.0, 0.8, 0.5, 0.0], abs=1e-6)
    wanted = {"name": "meaning", "value": [1, 0, 0], "order": "least_similar"}
    least = rows.owner.search(rows.id, vector=wanted, page="limit=2")
    assert (least.ids, least.total) == (["r3", "r2"], 2)
    assert least.scores == pytest.approx([1.0, 0.5], abs=1e-6)


def test_similar_by_record_leaves_it_out_and_heeds_filters_and_text(rows: Set) -> None:
    like = {"name": "meaning", "record_id": rows.records["r0"]}
    assert rows.owner.search(rows.id, vector=like).ids == ["r1", "r2", "r3"]
    submitted = [terms("response", "submitted")]
    assert rows.reviewer_b.search(rows.id, vector=like, filters=submitted).ids == ["r3"]
    assert rows.owner.search(rows.id, "knee", vector=like).ids == ["r2"]


def test_a_vector_of_the_wrong_length_is_refused(rows: Set) -> None:
    wrong = {"name": "meaning", "value": [1, 2]}
    assert rows.owner.search(rows.id, vector=wrong, status=422).ids == []


def test_a_threshold_cuts_what_is_less_similar(rows: Set, argilla_home: ServerHome) -> None:
    """The API has no threshold, the engine has: asked in the server's environment."""
    script = """
import asyncio, os, sys, uuid
os.environ.update(HF_HUB_OFFLINE="1", ARGILLA_SEARCH_ENGINE="sqlite", ARGILLA_HOME_PATH=sys.argv[1],
                  ARGILLA_DATABASE_URL=f"sqlite+aiosqlite:///{sys.argv[1]}/argilla.db")
sys.path.insert(0, sys.argv[2])
from argilla_server.database import AsyncSessionLocal
from argilla_server.models import Dataset, VectorSettings
import engine
async def main():
    async with AsyncSessionLocal() as session:
        dataset = await Dataset.get(session, uuid.UUID(sys.argv[3]))
        settings = await VectorSettings.get_by(session, dataset_id=dataset.id)
    asked = engine.SQLiteSearchEngine().similarity_search
    found = await asked(dataset, settings, value=[1.0, 0.0, 0.0], threshold=0.7)
    print([round(item.score, 3) for item in found.items])
asyncio.run(main())
"""
    embedded = str(Path(curation.argilla.server.__file__).parent / "embedded")
    done = subprocess.run(
        [str(server_python()), "-c", script, str(argilla_home.path), embedded, rows.id],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[1.0, 0.8]"


def _sixty_records(owner: Api, name: str, *, overlap: int) -> tuple[str, dict[str, str]]:
    """Return a new dataset, and the id of each of its records by its name."""
    fields = [{"name": "question", "title": "q", "required": True, "settings": {"type": "text"}}]
    questions = [{"name": "fidelity", "title": "f", "required": True, "settings": RATING}]
    dataset = owner.dataset(name, {"fields": fields, "questions": questions}, overlap=overlap)
    added = [{"external_id": f"{i:02}", "fields": {"question": f"n{i}"}} for i in range(60)]
    return dataset, owner.push(dataset, added)


def test_each_reviewer_meets_the_records_in_an_order_of_their_own(argilla_server: Server) -> None:
    owner, reviewer_a, reviewer_b = (
        Api(argilla_server, name) for name in ("owner", "reviewer-a", "reviewer-b")
    )
    dataset, records = _sixty_records(owner, "order", overlap=1)
    first = reviewer_a.search(dataset, page="limit=60").ids
    reviewer_a.answer(records[first[0]], "submitted", fidelity=3)
    assert reviewer_a.search(dataset, page="limit=60").ids == first
    pages = [reviewer_a.search(dataset, page=f"limit=25&offset={at}").ids for at in (0, 25, 50)]
    assert [name for page in pages for name in page] == first
    others = reviewer_b.search(dataset, page="limit=60").ids
    assert sorted(others) == sorted(first) == sorted(records)
    assert others != first
    assert owner.search(dataset, page="limit=60").ids == sorted(records)


def test_reviewers_begin_with_the_same_rows_where_a_row_needs_two(argilla_server: Server) -> None:
    owner, reviewer_a, reviewer_b = (
        Api(argilla_server, name) for name in ("owner", "reviewer-a", "reviewer-b")
    )
    dataset, records = _sixty_records(owner, "together", overlap=2)
    first, others = (one.search(dataset, page="limit=60").ids for one in (reviewer_a, reviewer_b))
    assert first[:20] == others[:20] == sorted(records)[:20]
    assert sorted(first) == sorted(others) == sorted(records)
    assert first[20:] != others[20:]
    late = [{"external_id": f"x{i}", "fields": {"question": f"x{i}"}} for i in range(9)]
    owner.push(dataset, late)
    assert reviewer_a.search(dataset, page="limit=20").ids == first[:20]
    assert reviewer_a.search(dataset, "n59").ids == ["59"]


def test_a_queue_in_order_is_met_in_it_by_every_reviewer(argilla_server: Server) -> None:
    owner, reviewer_a, reviewer_b = (
        Api(argilla_server, name) for name in ("owner", "reviewer-a", "reviewer-b")
    )
    for overlap in (2, 1):
        dataset, records = _sixty_records(owner, f"in-order-{overlap}", overlap=overlap)
        owner.call("PATCH", f"datasets/{dataset}", {"metadata": {"in_order": True}})
        first, others = (
            one.search(dataset, page="limit=60").ids for one in (reviewer_a, reviewer_b)
        )
        assert sorted(first) == sorted(others) == sorted(records)
        if overlap == 2:
            assert first == others == sorted(records)
            continue
        # One review is enough: near each other in the queue, and seldom the same row.
        places = {name: place for place, name in enumerate(sorted(records))}
        for order in (first, others):
            assert max(abs(places[name] - place) for place, name in enumerate(order)) < 8
        assert first != others


def test_a_changed_or_dropped_record_is_found_by_what_it_says_now(argilla_server: Server) -> None:
    owner = Api(argilla_server, "owner")
    dataset = owner.dataset("changes", SETTINGS, overlap=1)
    row = {"external_id": "x", "fields": {"question": "lunge"}, "vectors": {"meaning": [1, 0, 0]}}
    other = {"external_id": "y", "fields": {"question": "other"}, "vectors": {"meaning": [0, 1, 0]}}
    records = owner.push(dataset, [row, other])
    near = {"name": "meaning", "value": [1, 0, 0]}
    assert owner.search(dataset, vector=near).ids == ["x", "y"]
    changed = {"fields": {"question": "plank"}, "vectors": {"meaning": [-1, 0, 0]}}
    owner.push(dataset, [row | changed | {"metadata": {"topic": "core"}}])
    assert owner.search(dataset, "lunge").total == 0
    assert owner.search(dataset, "plank").ids == ["x"]
    assert owner.search(dataset, filters=[terms("metadata.topic", "core")]).ids == ["x"]
    assert owner.search(dataset, vector=near).ids == ["y", "x"]
    owner.call("DELETE", f"records/{records['x']}")
    assert owner.search(dataset, "plank").total == 0
    assert owner.search(dataset, vector=near).ids == ["y"]
    assert owner.call("GET", f"datasets/{dataset}/progress")["total"] == 1


def test_a_deleted_dataset_leaves_nothing_in_the_way_of_the_next(
    argilla_server: Server, argilla_home: ServerHome
) -> None:
    owner = Api(argilla_server, "owner")

    def indexed() -> int:
        with contextlib.closing(sqlite3.connect(argilla_home.database)) as database:
            return int(database.execute("SELECT count(*) FROM persona_text").fetchone()[0])

    before = indexed()
    for name in ("deleted", "next"):
        dataset = owner.dataset(name, SETTINGS, overlap=1)
        owner.push(dataset, [{"external_id": key, **row} for key, row in ROWS.items()])
        assert owner.search(dataset, "sleep").ids == ["r3"]
        assert indexed() > before
        owner.call("DELETE", f"datasets/{dataset}")
        assert indexed() == before
