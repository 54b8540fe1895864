"""Fill an Argilla database and time the embedded search engine's own calls; prints JSON.

Runs in the server's environment, on a database that no server holds:
``python review_engine.py HOME RECORDS REPEATS``. ``bench_review.py`` calls it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

EMBEDDED = Path(__file__).resolve().parents[1] / "curation" / "argilla" / "embedded"
WORDS = """
squat bench row curl plank stretch run walk knee back wrist neck shoulder desk office lunch sleep
water protein warm rest set rep weight slow breath pain sharp dull morning evening
허리가 무릎이 어깨를 스트레칭 운동을 점심에 퇴근하고 천천히 통증이 물을 단백질 수면 자세를
"""
DIMENSIONS = 384


def fill(records: int) -> tuple[UUID, list[UUID]]:
    """Insert a dataset of ``records`` records, each answered by some of three reviewers."""
    from argilla_server import models
    from argilla_server.database import sync_engine
    from sqlalchemy import insert

    draw = random.Random(7)
    words = WORDS.split()
    now = datetime(2026, 1, 1)
    dataset, workspace = uuid4(), uuid4()
    users = [uuid4() for _ in range(3)]
    common = {"inserted_at": now, "updated_at": now}

    def row(**values: object) -> dict[str, object]:
        return {"id": uuid4(), **common, **values}

    def text(length: int) -> str:
        return " ".join(draw.choices(words, k=length)) + f" n{draw.randrange(1000)} 💪"

    fields = [
        row(name=name, title=name, required=True, settings={"type": "text"}, dataset_id=dataset)
        for name in ("question", "answer")
    ]
    options = [{"value": value} for value in range(1, 6)]
    questions = [
        row(name=name, title=name, required=True, settings=settings, dataset_id=dataset)
        for name, settings in {
            "fidelity": {"type": "rating", "options": options},
            "better": {"type": "label_selection", "options": []},
            "wrong": {"type": "multi_label_selection", "options": []},
        }.items()
    ]
    metadata = [
        row(name=name, title=name, settings={"type": kind}, allowed_roles=[], dataset_id=dataset)
        for name, kind in {"topic": "terms", "length": "integer", "score": "float"}.items()
    ]
    vectors = row(name="meaning", title="meaning", dimensions=DIMENSIONS, dataset_id=dataset)
    ids = [uuid4() for _ in range(records)]
    topics = [f"topic-{i}" for i in range(12)]
    rows, suggestions, responses, values = [], [], [], []
    for i, record in enumerate(ids):
        at = {"inserted_at": now + timedelta(milliseconds=i)}
        rows.append(
            {
                **row(
                    fields={"question": text(15), "answer": text(60)},
                    external_id=f"r{i}",
                    dataset_id=dataset,
                    status="completed" if draw.random() < 0.4 else "pending",
                ),
                "metadata": {
                    "topic": draw.choice(topics),
                    "length": draw.randrange(40, 900),
                    "score": draw.random(),
                },
                **at,
                "id": record,
            }
        )
        for question, value, score in (
            (questions[0], draw.randrange(1, 6), draw.random()),
            (questions[2], draw.sample(["voice", "fact", "unsafe"], 2), [0.3, 0.6]),
        ):
            suggestions.append(
                row(
                    value=value,
                    score=score,
                    agent=draw.choice(["rules", "judge"]),
                    type="model",
                    record_id=record,
                    question_id=question["id"],
                )
            )
        for user in users:
            if draw.random() < 0.8:
                answer = {"fidelity": {"value": draw.randrange(1, 6)}, "better": {"value": "a"}}
                stated = draw.choice(["submitted"] * 8 + ["draft", "discarded"])
                responses.append(row(values=answer, status=stated, record_id=record, user_id=user))
        vector = [round(draw.gauss(0, 1), 5) for _ in range(DIMENSIONS)]
        values.append(row(value=vector, record_id=record, vector_settings_id=vectors["id"]))
    accounts = [
        row(
            first_name="r",
            username=f"bench-{user.hex[:8]}",
            role="annotator",
            api_key=user.hex,
            password_hash="",
        )
        | {"id": user}
        for user in users
    ]
    tables = (
        (models.Workspace, [row(name=f"bench-{records}") | {"id": workspace}]),
        (models.User, accounts),
        (models.WorkspaceUser, [row(workspace_id=workspace, user_id=user) for user in users]),
        (
            models.Dataset,
            [
                row(
                    name="bench",
                    guidelines="",
                    status="ready",
                    distribution={"strategy": "overlap", "min_submitted": 2},
                    workspace_id=workspace,
                )
                | {"id": dataset}
            ],
        ),
        (models.Field, fields),
        (models.Question, questions),
        (models.MetadataProperty, metadata),
        (models.VectorSettings, [vectors]),
        (models.Record, rows),
        (models.Suggestion, suggestions),
        (models.Response, responses),
        (models.Vector, values),
    )
    with sync_engine.begin() as connection:
        for table, found in tables:
            connection.execute(insert(table), found)
    with sync_engine.connect() as connection:  # as after many pushes, not one huge transaction
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    sync_engine.dispose()
    return dataset, users


async def measure(dataset_id: UUID, users: list[UUID], repeats: int) -> dict[str, list[float]]:
    """Return the milliseconds of ``repeats`` calls of each kind, asked in turn by the reviewers."""
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.models import Dataset, MetadataProperty, User, VectorSettings
    from argilla_server.search_engine import base
    from engine import SQLiteSearchEngine
    from sqlalchemy import select
    from sqlalchemy.orm import selectinload

    draw = random.Random(11)
    async with AsyncSessionLocal() as session:
        dataset = await Dataset.get_or_raise(
            session, dataset_id, options=[selectinload(Dataset.fields)]
        )
        people = [await User.get_or_raise(session, user) for user in users]
        settings = await VectorSettings.get_by(session, dataset_id=dataset_id)
        topic = await MetadataProperty.get_by(session, dataset_id=dataset_id, name="topic")
        length = await MetadataProperty.get_by(session, dataset_id=dataset_id, name="length")
        assert (await session.execute(select(1))).scalar() == 1
    engine = await SQLiteSearchEngine.new_instance()

    def pending(user: User) -> base.Filter:
        scope = base.ResponseFilterScope(property="status", user=user)
        return base.TermsFilter(scope, ["pending"])

    def several(user: User) -> base.Filter:
        suggested = base.SuggestionFilterScope("fidelity", "value")
        topic_of = base.MetadataFilterScope("topic")
        stated = base.ResponseFilterScope(property="status", user=user)
        return base.AndFilter(
            [
                base.TermsFilter(topic_of, [f"topic-{i}" for i in (1, 2, 3)]),
                base.RangeFilter(base.MetadataFilterScope("length"), ge=100, le=800),
                base.RangeFilter(suggested, ge=2),
                base.TermsFilter(stated, ["submitted"]),
            ]
        )

    def sorting(user: User) -> list[base.Order]:
        answered = base.ResponseFilterScope(question="fidelity", user=user)
        return [
            base.Order(base.SuggestionFilterScope("fidelity", "score"), "desc"),
            base.Order(answered, "asc"),
            base.Order(base.MetadataFilterScope("length"), "asc"),
        ]

    def words() -> str:
        return " ".join(draw.sample(WORDS.split(), 2))

    def vector() -> list[float]:
        return [draw.gauss(0, 1) for _ in range(DIMENSIONS)]

    calls: dict[str, Callable[[User], Awaitable[object]]] = {
        "pending, random order": lambda u: engine.search(
            dataset, filter=pending(u), limit=50, user_id=u.id
        ),
        "two words": lambda u: engine.search(dataset, words(), limit=50),
        "two words, 4 filters, 3 sorts": lambda u: engine.search(
            dataset, words(), filter=several(u), sort=sorting(u), limit=50, user_id=u.id
        ),
        "two words, deep page": lambda u: engine.search(dataset, words(), offset=900, limit=50),
        "4 filters, 3 sorts": lambda u: engine.search(
            dataset, filter=several(u), sort=sorting(u), limit=50
        ),
        "3 sorts": lambda u: engine.search(dataset, sort=sorting(u), limit=50),
        "dataset progress": lambda u: engine.get_dataset_progress(dataset),
        "reviewer's progress": lambda u: engine.get_dataset_user_progress(dataset, u),
        "metrics, terms": lambda u: engine.compute_metrics_for(topic),
        "metrics, integer": lambda u: engine.compute_metrics_for(length),
        "similar": lambda u: engine.similarity_search(dataset, settings, value=vector()),
        "similar, 4 filters": lambda u: engine.similarity_search(
            dataset, settings, value=vector(), filter=several(u)
        ),
    }
    taken: dict[str, list[float]] = {}
    for name, call in calls.items():
        taken[name] = []
        for i in range(repeats):
            begun = time.perf_counter()
            await call(people[i % len(people)])
            taken[name].append((time.perf_counter() - begun) * 1000)
    return taken


def main() -> None:
    """Fill the home's database and print the timings."""
    home, records, repeats = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.environ.update(
        HF_HUB_OFFLINE="1",
        ARGILLA_HOME_PATH=str(home),
        ARGILLA_DATABASE_URL=f"sqlite+aiosqlite:///{home / 'argilla.db'}?check_same_thread=False",
        ARGILLA_SEARCH_ENGINE="sqlite",
    )
    sys.path.insert(0, str(EMBEDDED))
    import database

    database.migrate(home / "argilla.db")
    begun = time.perf_counter()
    dataset, users = fill(records)
    filled = time.perf_counter() - begun
    calls = asyncio.run(measure(dataset, users, repeats))
    keys = [user.hex for user in users]
    print(json.dumps({"fill_s": filled, "dataset": str(dataset), "keys": keys, "calls_ms": calls}))


if __name__ == "__main__":
    main()
