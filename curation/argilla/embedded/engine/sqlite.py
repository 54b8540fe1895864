"""The search engine that Argilla calls: all of its ``SearchEngine``, over SQLite."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy
from argilla_server.database import sync_engine
from argilla_server.enums import SimilarityOrder
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import (
    Dataset,
    MetadataProperty,
    Record,
    User,
    VectorSettings,
)
from argilla_server.search_engine.base import (
    Filter,
    MetadataMetrics,
    Order,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TextQuery,
)

from engine import counts, order
from engine.filters import condition
from engine.statement import Statement, json_path
from engine.tables import unit_vector
from engine.text import text_condition
from engine.vectors import vectors_of

NAME = "sqlite"


@SearchEngine.register(NAME)
class SQLiteSearchEngine(SearchEngine):
    """Answers from Argilla's own tables; what Argilla tells it about changes is known already."""

    @classmethod
    async def new_instance(cls) -> SQLiteSearchEngine:
        """Return an engine; there is nothing to open, connections come from Argilla's pool."""
        return cls()

    async def close(self) -> None:
        """Do nothing: the connections are Argilla's."""

    async def ping(self) -> bool:
        """Tell whether the database answers."""
        return bool(await _rows("SELECT 1"))

    async def info(self) -> dict[str, Any]:
        """Return the engine's name and the version of SQLite."""
        return {"name": NAME, "version": {"number": sqlite3.sqlite_version}}

    async def _is_known(self, *_: object, **__: object) -> None:
        """Do nothing: triggers index words and vectors as they are written, the rest is read."""

    create_index = delete_index = configure_metadata_property = configure_index_vectors = _is_known
    index_records = partial_record_update = delete_records = _is_known
    update_record_response = delete_record_response = _is_known
    update_record_suggestion = delete_record_suggestion = _is_known

    async def get_dataset_progress(self, dataset: Dataset) -> dict[str, int]:
        """Return ``total`` and the count of records of each status; nothing for a draft."""
        if dataset.is_draft:
            return {}
        return counts.progress(await _rows(counts.RECORDS_BY_STATUS, dataset=dataset.id.hex))

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict[str, int]:
        """Return ``total`` and the count of this user's responses of each status."""
        if dataset.is_draft:
            return {}
        return counts.progress(
            await _rows(counts.RESPONSES_BY_STATUS, dataset=dataset.id.hex, user=user.id.hex)
        )

    async def search(
        self,
        dataset: Dataset,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        sort: list[Order] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: str | UUID | None = None,
    ) -> SearchResponses:
        """Return one page of matching records, and how many match in all.

        Without ``sort`` the best match comes first; for a ``user_id`` the match counts times a
        random number that stays the same for this user and record, so that reviewers of the same
        records meet them in different orders. Where a record needs several reviews, all begin with
        the same first records instead, so that their agreement is known early. A dataset whose
        metadata says :data:`engine.order.IN_ORDER` is met in the order in which records were added.
        Ties keep that order.
        """
        sql = Statement(dataset.id)
        conditions, score = _conditions(dataset, query, filter, sql, ranked=not sort)
        if user_id and not sort:
            together = dataset.distribution["min_submitted"] > 1
            shuffled = f"persona_shuffle(r.id, {sql.param(UUID(str(user_id)).hex)})"
            if not query and (dataset.metadata_ or {}).get(order.IN_ORDER):
                score = order.in_order("" if together else shuffled)
            else:
                score = f"({score}) * {shuffled}"
                if not query and together:
                    score = order.together(score, sql.param(dataset.id))
        by = order.keys(sort, sql) if sort else [(score, "DESC")]
        page = await _page(sql, conditions, by, offset, limit)
        total = page[0][1] if page else 0
        if not page and offset:
            total = (await _page(sql, conditions, by, 0, 1) or [(None, 0)])[0][1]
        return SearchResponses(
            items=[
                SearchResponseItem(record_id=UUID(row[0]), score=None if sort else row[2])
                for row in page
            ],
            total=total,
        )

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        """Return the property's counted terms, or its least and greatest number."""
        rows = await _rows(
            counts.statement_for(metadata_property),
            dataset=metadata_property.dataset_id.hex,
            path=json_path(metadata_property.name),
        )
        return counts.metrics(metadata_property, rows)

    async def similarity_search(
        self,
        dataset: Dataset,
        vector_settings: VectorSettings,
        value: list[float] | None = None,
        record: Record | None = None,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """Return the records whose vectors are most, or least, like a value or another record's.

        The record itself is left out; ``total`` counts what is returned, at most ``max_results``.
        """
        if bool(value) == bool(record):
            raise ValueError("give either a vector or a record to compare with")
        wanted = value or (record and record.vector_value_by_vector_settings(vector_settings))
        if not wanted:
            raise ValueError(f"the record has no vector {vector_settings.name!r}")
        if len(wanted) != vector_settings.dimensions:
            raise UnprocessableEntityError(
                f"Vector must have {vector_settings.dimensions} elements, got {len(wanted)}"
            )
        nearest = (await vectors_of(vector_settings.id.hex, _rows)).nearest(
            unit_vector(json.dumps(wanted)),
            least=order == SimilarityOrder.least_similar,
            limit=max_results,
            among=await _matching(dataset, query, filter),
            without=record.id.hex if record else None,
        )
        items = [
            SearchResponseItem(record_id=UUID(record_id), score=score)
            for record_id, score in nearest
            if threshold is None or score >= threshold
        ]
        return SearchResponses(items=items, total=len(nearest))


async def _matching(
    dataset: Dataset, query: TextQuery | str | None, filter: Filter | None
) -> list[int] | None:
    """Return the keys of the records that match; None where nothing is asked."""
    if query is None and not filter:
        return None
    sql = Statement(dataset.id)
    conditions = _conditions(dataset, query, filter, sql)[0]
    rows = await _rows(
        f"{_with(sql)} SELECT r.key FROM persona_records r {' '.join(sql.joins)} "
        f"WHERE {' AND '.join(conditions)}",
        **sql.params,
    )
    return [row[0] for row in rows]


def _conditions(
    dataset: Dataset,
    query: TextQuery | str | None,
    filter: Filter | None,
    sql: Statement,
    *,
    ranked: bool = False,
) -> tuple[list[str], str]:
    """Return the conditions of a search on a record ``r``, and the score of its text query."""
    conditions = [f"r.dataset_id = {sql.param(dataset.id)}"]
    score = "1.0"
    if query is not None:
        matches, score = text_condition(dataset, query, sql, ranked=ranked)
        conditions.append(f"({matches})")
    if filter:
        conditions.append(f"({condition(filter, sql)})")
    return conditions, score


async def _page(
    sql: Statement, conditions: list[str], by: list[tuple[str, str]], offset: int, limit: int
) -> Sequence[Any]:
    """Return (record id, total, first sort key, …) of one page."""
    columns = "".join(f", {expression} AS o{i}" for i, (expression, _) in enumerate(by))
    ordered = ", ".join(f"o{i} {way} NULLS LAST" for i, (_, way) in enumerate(by))
    return await _rows(
        f"{_with(sql)} SELECT r.id, count(*) OVER () AS total{columns} FROM persona_records r "
        f"{' '.join(sql.joins)} WHERE {' AND '.join(conditions)} "
        f"ORDER BY {ordered}, r.key LIMIT :limit OFFSET :offset",
        **sql.params,
        limit=limit,
        offset=offset,
    )


def _with(sql: Statement) -> str:
    return f"WITH {', '.join(sql.tables)}" if sql.tables else ""


async def _rows(statement: str, **params: Any) -> Sequence[Any]:
    # One hand-over to a thread; Argilla's async connections need six, each of which waits for a
    # free core on a busy machine.
    return await asyncio.to_thread(_read, statement, params)


def _read(statement: str, params: dict[str, Any]) -> Sequence[Any]:
    with sync_engine.connect() as connection:
        return connection.execute(sqlalchemy.text(statement), params).all()
