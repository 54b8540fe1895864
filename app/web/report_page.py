"""The report of a round inside the pages; review from here: its server, links, progress, queue."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, Response

from app.web.guard import INSIDE
from app.web.library import Command
from app.web.page import Form, ThisPage
from rounds.artifacts import Text
from rounds.layout import AGREEMENT, DECISIONS, REPORT_PAGE, RESOLVE_DROPS, REVIEWS
from rounds.notes import CONTESTS
from rounds.reviewing import count_decisions
from rounds.rows import RowFilter
from rounds.status import ReviewStanding, review_standing
from workbench.errors import UserError

router = APIRouter(prefix="/round/{persona}/{number}")
FILES = ("report.html", "safety.html")
REVIEW = {name: ("review", name) for name in ("up", "push", "pull", "adjudicate", "down")}
"""What is started from the page, by its button."""
_QUEUE = 50
"""Rows of the queue that are shown."""


@router.get("/report")
def report(page: ThisPage, persona: str, number: int) -> HTMLResponse:
    """Show the report inside, where there is one."""
    context = page.round(persona, number)
    return page.of_round(context, "report", made=context.round.has(REPORT_PAGE))


@router.get("/report/{name}")
def file(page: ThisPage, persona: str, number: int, name: str) -> Response:
    """Return a page of the report itself, which runs no script."""
    context = page.round(persona, number)
    artifact = Text(REPORT_PAGE.stage, name)
    if name not in FILES or not context.round.has(artifact):
        raise HTTPException(404, page.t("report.none"))
    headers = {"content-security-policy": INSIDE, "x-frame-options": "SAMEORIGIN"}
    return HTMLResponse(context.round.read(artifact), headers=headers)


@router.get("/review")
def review(page: ThisPage, persona: str, number: int) -> HTMLResponse:
    """Show how far reviewers are, how far they agree, and what waits in the queue."""
    context = page.round(persona, number)
    one = context.round
    error, standing = None, ReviewStanding("")
    try:
        standing = review_standing(context)
    except UserError as refusal:
        error = refusal
    decided = one.has(DECISIONS) and one.has(RESOLVE_DROPS)
    return page.of_round(
        context,
        "review",
        standing=standing,
        error=error,
        agreement=one.read(AGREEMENT) if one.has(AGREEMENT) else None,
        decisions=count_decisions(one) if decided else [],
        queue=page.library.table(one).find(RowFilter(decision="queue"), 1, _QUEUE).rows,
        contests=one.read_if_there(CONTESTS),
        commands={
            name: Command(context, REVIEW[name]).typed
            for name in _useful(standing, one.has(REVIEWS))
        },
    )


def _useful(standing: ReviewStanding, pulled: bool) -> Iterator[str]:
    """Yield the names of the commands that help now, the next one first."""
    if not standing.server:
        yield "up"
        return
    yield from ("pull", "push") if standing.rows else ("push",)
    if pulled:
        yield "adjudicate"
    yield "down"


@router.post("/review")
def start(page: ThisPage, form: Form, persona: str, number: int) -> Response:
    """Start the review server, push rows to it, or pull what people said."""
    words = REVIEW.get(form.get("do", ""))
    if words is None:
        raise HTTPException(422, page.t("error.nothing_runs"))
    Command(page.round(persona, number), words).start()
    return page.go(f"/round/{persona}/{number}")
