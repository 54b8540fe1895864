"""Two rounds side by side: rows, recipes, paired scores, and answers, the most changed first."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from app.web.page import Form, ThisPage
from evaluation.scorers import SENSE
from rounds.comparison import answers_beside, compare_rounds
from rounds.notes import VOTES, vote
from workbench.errors import UserError
from workbench.persona import FIDELITY

router = APIRouter(prefix="/round/{persona}/{number}")
SHOWN = 20
"""Pairs of answers on a page."""
BETTER: dict[str, Literal["before", "after", "tie"]] = {
    "before": "before",
    "after": "after",
    "tie": "tie",
}


@router.get("/compare")
def compare(
    page: ThisPage, persona: str, number: int, to: int = 0, arm: str = "", at: int = 1
) -> HTMLResponse:
    """Compare the round with another one, the one before it by default."""
    context = page.round(persona, number)
    one = context.round
    others = [other for other in one.all_rounds if other != one]
    if not others:
        return page.of_round(context, "compare", others=[], other=None)
    usual = one.previous or others[0]
    other = next((own for own in others if own.number == to), usual)
    first, second = sorted((one, other), key=lambda o: o.number)
    comparison = compare_rounds(first, second, context.config.seed)
    arms = sorted({own.arm for own in answers_beside(first, second)})
    pairs = answers_beside(first, second, arm if arm in arms else "")
    pages = max(1, -(-len(pairs) // SHOWN))
    at = min(max(at, 1), pages)
    votes = {(v.before, v.after): v.better for v in second.read_if_there(VOTES)}
    values: dict[str, Any] = {
        "others": others,
        "other": other,
        "first": first,
        "second": second,
        "comparison": comparison,
        "arms": arms,
        "main": (FIDELITY, SENSE),
        "arm": arm,
        "pairs": pairs[(at - 1) * SHOWN : at * SHOWN],
        "at": at,
        "pages": pages,
        "votes": votes,
    }
    return page.of_round(context, "compare", **values)


@router.post("/vote")
def voted(page: ThisPage, form: Form, persona: str, number: int) -> Response:
    """Keep which of two answers is better: a part of the page comes back."""
    context = page.round(persona, number)
    better = BETTER.get(form.get("better", ""))
    arm, before, after = (form.get(name, "") for name in ("arm", "before", "after"))
    if better is None or not (arm and before and after):
        raise UserError("no answer was voted for")
    vote(context.round, arm, before, after, better)
    return HTMLResponse(page.t(f"compare.{better}"))
