"""The order of search results: Argilla's sort keys as SQL, and the random order of a reviewer."""

from __future__ import annotations

from hashlib import blake2b

from argilla_server.search_engine.base import (
    FilterScope,
    MetadataFilterScope,
    Order,
    ResponseFilterScope,
    SuggestionFilterScope,
)

from engine.filters import response_of, suggestion_of
from engine.statement import Statement, json_path

_SPAN = 2**64
TOGETHER = 20
"""Records with which all reviewers of a dataset begin."""
IN_ORDER = "in_order"
"""Key of a dataset's metadata: its records are met in the order in which they were added."""
APART = 8
"""Records in a row that reviewers meet in an order of their own, where one review is enough."""


def shuffle(record_id: str, seed: str) -> float:
    """Return a number in (0, 1] that looks random over records and users, and never changes."""
    drawn = blake2b(record_id.encode(), key=seed.encode()[:64], digest_size=8).digest()
    return (int.from_bytes(drawn) + 1) / _SPAN


def together(score: str, dataset: str) -> str:
    """Return ``score``, at most 1, as one by which the dataset's first records come first."""
    first = f"SELECT key FROM persona_records WHERE dataset_id = {dataset} ORDER BY key"
    return f"(CASE WHEN r.key IN ({first} LIMIT {TOGETHER}) THEN 2 ELSE {score} END)"


def in_order(shuffled: str = "") -> str:
    """Return a score by which records come in the order in which they were added.

    With ``shuffled``, a score in (0, 1], only by groups of :data:`APART`, so that two reviewers
    seldom read the same record at a time.
    """
    return f"({shuffled} - r.key / {APART})" if shuffled else "-r.key"


def keys(orders: list[Order], sql: Statement) -> list[tuple[str, str]]:
    """Return (expression, ``ASC`` or ``DESC``) for each order; records without a value go last."""
    return [
        (_value(order.scope, str(order.order), sql), str(order.order).upper()) for order in orders
    ]


def _value(scope: FilterScope, order: str, sql: Statement) -> str:
    # Of several values the smallest counts upward, the largest downward, as in Elasticsearch.
    best = "min" if order == "asc" else "max"
    if isinstance(scope, MetadataFilterScope):
        return _one("r.metadata", sql.param(json_path(scope.metadata_property)), best)
    if isinstance(scope, SuggestionFilterScope):
        suggestion = suggestion_of(scope.question, sql)
        if scope.property in ("agent", "type"):
            return f"(SELECT s.{scope.property} FROM suggestions s WHERE {suggestion})"
        value = _one("s.score" if scope.property == "score" else "s.value", "'$'", best)
        return f"(SELECT {value} FROM suggestions s WHERE {suggestion})"
    if isinstance(scope, ResponseFilterScope):
        whose = response_of(scope, sql)
        if not scope.question:
            return f"(SELECT {best}(p.status) FROM responses p WHERE {whose})"
        value = _one('p."values"', sql.param(json_path(scope.question, "value")), best)
        # Several people's ratings count by their mean; labels have none.
        return (
            f"(SELECT CASE WHEN typeof({best}(v)) = 'text' THEN {best}(v) ELSE avg(v) END "
            # LIMIT -1 keeps SQLite from working the value out again for each time it is named.
            f"FROM (SELECT {value} AS v FROM responses p WHERE {whose} LIMIT -1))"
        )
    return f"r.{scope.property!s}"


def _one(column: str, path: str, best: str) -> str:
    """Return the value at ``path`` of a JSON column, the ``best`` one where it is a list."""
    return (
        f"CASE json_type({column}, {path}) WHEN 'array' "
        f"THEN (SELECT {best}(value) FROM json_each({column}, {path})) "
        f"ELSE json_extract({column}, {path}) END"
    )
