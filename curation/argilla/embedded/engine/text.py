"""A text query as SQL: which records match, and how well."""

from __future__ import annotations

from argilla_server.models import Dataset
from argilla_server.search_engine.base import TextQuery

from engine.query import Leaf, Node, Not, parse
from engine.statement import Statement

# Without CAST the key has no type, and SQLite joins on it without an index.
# LIMIT -1 keeps SQLite from merging the two SELECTs, where bm25 may not be called.
_RANKED = """{name} AS MATERIALIZED (
  SELECT key, max(score) AS score FROM (
    SELECT CAST(rowid / 1024 AS INTEGER) AS key, -bm25(persona_text, 0.0, 1.0) AS score
    FROM persona_text WHERE persona_text MATCH {match} LIMIT -1)
  GROUP BY key)"""
_UNRANKED = """r.key IN (
  SELECT CAST(rowid / 1024 AS INTEGER) FROM persona_text WHERE persona_text MATCH {match})"""


def text_condition(
    dataset: Dataset, query: TextQuery | str, sql: Statement, *, ranked: bool
) -> tuple[str, str]:
    """Return (condition, score) of a text query on a record ``r``; its tables go to ``sql``.

    Each word may stand in another field, as in Argilla, unless the query names a field. The score
    is the sum over words of the best field's BM25; unless ``ranked`` it is not worked out, and 0.

    Raises:
        ValueError: The query names a field that the dataset does not have.
    """
    asked = TextQuery(q=query) if isinstance(query, str) else query
    scope = f"d{dataset.id.hex}"
    if asked.field:
        field = dataset.field_by_name(asked.field)
        if field is None:
            raise ValueError(f"field {asked.field!r} not found in dataset {dataset.id}")
        scope = f"f{field.id.hex}"
    tree = parse(asked.q)
    if tree is None:
        return "0", "0.0"
    return _condition(tree, scope, sql, ranked)


def _condition(node: Node, scope: str, sql: Statement, ranked: bool) -> tuple[str, str]:
    if isinstance(node, Leaf):
        match = sql.param(f'scope : "{scope}" AND words : ({node.match})')
        if not ranked:
            return _UNRANKED.format(match=match), "0.0"
        name = f"t{len(sql.tables)}"
        sql.tables.append(_RANKED.format(name=name, match=match))
        sql.joins.append(f"LEFT JOIN {name} ON {name}.key = r.key")
        return f"{name}.key IS NOT NULL", f"coalesce({name}.score, 0.0)"
    if isinstance(node, Not):
        return f"NOT ({_condition(node.node, scope, sql, False)[0]})", "0.0"
    parts = [_condition(inner, scope, sql, ranked) for inner in node.nodes]
    both = [f"({condition})" for condition, _ in parts]
    return f" {node.join} ".join(both), " + ".join(score for _, score in parts)
