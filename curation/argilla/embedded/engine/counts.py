"""What is counted rather than listed: progress, and the values of a metadata property."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from argilla_server.enums import MetadataPropertyType
from argilla_server.models import MetadataProperty
from argilla_server.search_engine.base import (
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataMetrics,
    TermsMetrics,
)

RECORDS_BY_STATUS = """
SELECT status, count(*) FROM persona_records WHERE dataset_id = :dataset GROUP BY 1
"""

RESPONSES_BY_STATUS = """
SELECT status, count(*) FROM persona_responses
WHERE dataset_id = :dataset AND user_id = :user GROUP BY 1
"""

TERMS = """
SELECT v.value, count(*) AS n FROM persona_records r, json_each(r.metadata, :path) v
WHERE r.dataset_id = :dataset AND v.value IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1
"""

RANGE = """
SELECT min(v.value), max(v.value) FROM persona_records r, json_each(r.metadata, :path) v
WHERE r.dataset_id = :dataset AND v.type IN ('integer', 'real')
"""


def progress(rows: Sequence[Any]) -> dict[str, int]:
    """Return ``{"total": …, status: count}`` from (status, count) rows."""
    return {"total": sum(count for _, count in rows), **dict(rows)}


def statement_for(metadata_property: MetadataProperty) -> str:
    """Return the query that ``metrics`` reads, for a terms or for a number property."""
    return TERMS if metadata_property.type == MetadataPropertyType.terms else RANGE


def metrics(metadata_property: MetadataProperty, rows: Sequence[Any]) -> MetadataMetrics:
    """Return the counted terms, the commonest first, or the least and greatest number."""
    if metadata_property.type == MetadataPropertyType.terms:
        values = [TermsMetrics.TermCount(term=str(term), count=count) for term, count in rows]
        return TermsMetrics(total=sum(count for _, count in rows), values=values)
    least, greatest = rows[0]
    if metadata_property.type == MetadataPropertyType.integer:
        return IntegerMetadataMetrics(min=least, max=greatest)
    return FloatMetadataMetrics(min=least, max=greatest)
