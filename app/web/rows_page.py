"""Every row of a round in a table, one row's whole story, and a word against a drop."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from app.web.page import Form, ThisPage
from rounds.notes import CONTESTS, contest
from rounds.rows import FACETS, RowFilter, row_story

router = APIRouter(prefix="/round/{persona}/{number}")
_LONGEST = 400
"""Characters of a text in the table."""


@router.get("/rows")
def rows(page: ThisPage, persona: str, number: int, at: int = 1) -> HTMLResponse:
    """Show a page of the table; the table alone where a filter asks for it."""
    context = page.round(persona, number)
    query = page.request.query_params
    wanted = RowFilter(**{name: query.get(name, "").strip() for name in ("text", *FACETS)})
    table = page.library.table(context.round)
    values: dict[str, Any] = {
        "table": table,
        "wanted": wanted,
        "found": table.find(wanted, at),
        "facets": FACETS,
        "longest": _LONGEST,
        "query": urlencode({n: v for n, v in vars(wanted).items() if v}),
        "contested": {one.record for one in context.round.read_if_there(CONTESTS)},
    }
    part = page.request.headers.get("hx-target") == "table"
    return page.of_round(context, "rows_table" if part else "rows", **values)


@router.get("/row/{row:path}")
def story(page: ThisPage, persona: str, number: int, row: str) -> HTMLResponse:
    """Show one row's whole story."""
    context = page.round(persona, number)
    return page.of_round(
        context, "row", story=row_story(context, row, page.library.record_files(context.round))
    )


@router.post("/contest")
def contested(page: ThisPage, form: Form, persona: str, number: int) -> Response:
    """Put a dropped row into the queue, with a note."""
    context = page.round(persona, number)
    record = form.get("record", "")
    contest(context.round, record, form.get("note", ""), form.get("by", "").strip())
    return page.go(f"/round/{persona}/{number}/row/{record}")
