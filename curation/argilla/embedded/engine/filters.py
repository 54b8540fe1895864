"""Argilla's filters as SQL conditions on a record ``r``.

A value may be one or a list (labels, terms, scores of several labels): it passes when any of it
does. What is missing never passes. Numbers compare as numbers, whatever text a caller sends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from argilla_server.enums import ResponseStatusFilter
from argilla_server.search_engine.base import (
    AndFilter,
    Filter,
    MetadataFilterScope,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)

from engine.statement import Statement, json_path

_TIMES = ("inserted_at", "updated_at")


def condition(filter: Filter, sql: Statement) -> str:
    """Return the condition that a record ``r`` passes ``filter``; values go to ``sql.params``."""
    if isinstance(filter, AndFilter):
        return " AND ".join(condition(inner, sql) for inner in filter.filters) or "1"
    scope = filter.scope
    if isinstance(scope, MetadataFilterScope):
        path = sql.param(json_path(scope.metadata_property))
        return f"EXISTS (SELECT 1 FROM json_each(r.metadata, {path}) v WHERE {_any(filter, sql)})"
    if isinstance(scope, SuggestionFilterScope):
        return _suggestion(filter, scope, sql)
    if isinstance(scope, ResponseFilterScope):
        return _response(filter, scope, sql)
    return _record(filter, scope, sql)


def suggestion_of(question: str, sql: Statement) -> str:
    """Return the join condition of ``r``'s suggestion ``s`` to a question of that name."""
    return (
        "s.record_id = r.id AND s.question_id = (SELECT q.id FROM questions q "
        f"WHERE q.name = {sql.param(question)} AND q.dataset_id = {sql.param(sql.dataset)})"
    )


def _suggestion(
    filter: TermsFilter | RangeFilter, scope: SuggestionFilterScope, sql: Statement
) -> str:
    suggestion = suggestion_of(scope.question, sql)
    if scope.property in ("agent", "type"):
        passes = _compare(f"s.{scope.property}", filter, sql)
        return f"EXISTS (SELECT 1 FROM suggestions s WHERE {suggestion} AND {passes})"
    column = "score" if scope.property == "score" else "value"
    return (
        f"EXISTS (SELECT 1 FROM suggestions s, json_each(s.{column}) v "
        f"WHERE {suggestion} AND {_any(filter, sql)})"
    )


def _response(filter: TermsFilter | RangeFilter, scope: ResponseFilterScope, sql: Statement) -> str:
    if scope.question:
        path = sql.param(json_path(scope.question, "value"))
        return (
            f'EXISTS (SELECT 1 FROM responses p, json_each(p."values", {path}) v '
            f"WHERE {response_of(scope, sql)} AND {_any(filter, sql)})"
        )
    if not isinstance(filter, TermsFilter):
        raise ValueError(f"a response's status is one of a list, not a range: {filter}")
    statuses = {str(value) for value in filter.values}
    passes = []
    # The table of keys: its index holds all that is asked, and no 32 letters are compared.
    response = f"SELECT 1 FROM persona_responses p WHERE p.key = r.key{_by(scope, sql)}"
    if ResponseStatusFilter.pending in statuses:
        # As Argilla means it: this user (or nobody, when no user is asked for) has said anything.
        passes.append(f"NOT EXISTS ({response})")
    if stated := sorted(statuses - {str(ResponseStatusFilter.pending)}):
        passes.append(f"EXISTS ({response} AND p.status IN {sql.listed(stated)})")
    return "(" + " OR ".join(passes) + ")"


def response_of(scope: ResponseFilterScope, sql: Statement) -> str:
    """Return the join condition of ``r``'s responses ``p``, of one user where one is asked for."""
    return f"p.record_id = r.id{_by(scope, sql)}"


def _by(scope: ResponseFilterScope, sql: Statement) -> str:
    return f" AND p.user_id = {sql.param(scope.user.id)}" if scope.user else ""


def _record(filter: TermsFilter | RangeFilter, scope: RecordFilterScope, sql: Statement) -> str:
    name = str(scope.property)
    parse: Callable[[Any], Any] = str
    if name == "id":
        parse = lambda value: UUID(str(value)).hex  # noqa: E731
    elif name in _TIMES:
        parse = stored_time
    return _compare(f"r.{name}", filter, sql, parse)


def stored_time(value: float | str) -> str:
    """Return a time as SQLAlchemy stores it: from ISO 8601 text, or milliseconds since 1970."""
    with contextlib.suppress(ValueError):
        value = float(value)
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    else:
        moment = datetime.fromtimestamp(value / 1000, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _compare(
    column: str,
    filter: TermsFilter | RangeFilter,
    sql: Statement,
    parse: Callable[[Any], Any] = str,
) -> str:
    if isinstance(filter, TermsFilter):
        known = []
        for value in filter.values:
            with contextlib.suppress(ValueError):  # no record has an id or time that is none
                known.append(parse(value))
        return f"{column} IN {sql.listed(known)}"
    bounds = []
    if filter.ge is not None:
        bounds.append(f"{column} >= {sql.param(parse(filter.ge))}")
    if filter.le is not None:
        bounds.append(f"{column} <= {sql.param(parse(filter.le))}")
    return " AND ".join(bounds)


def _any(filter: TermsFilter | RangeFilter, sql: Statement) -> str:
    """Return the condition on one element ``v`` of ``json_each``."""
    if isinstance(filter, RangeFilter):
        return "v.type IN ('integer', 'real') AND " + _compare("v.value", filter, sql, float)
    values: list[Any] = [str(value) for value in filter.values]
    for value in filter.values:
        with contextlib.suppress(ValueError):
            values.append(float(value))
    return f"v.value IN {sql.listed(values)}"
