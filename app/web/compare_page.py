"""Two rounds, trainings or arms side by side: rows, recipes, paired scores, and answers."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from app.web.page import Form, Page, ThisPage
from evaluation.scorers import SENSE
from rounds.comparison import GONE, Arms, answers_beside, compare_rounds, evaluated_arms
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from rounds.notes import VOTES, vote
from rounds.overview import BASE
from rounds.training_seeds import trainings
from workbench.arm_names import is_prompted
from workbench.errors import UserError, nearest
from workbench.persona import FIDELITY

router = APIRouter(prefix="/round/{persona}/{number}")
SHOWN = 20
"""Pairs of answers on a page."""
BETTER: dict[str, Literal["before", "after", "tie"]] = {
    "before": "before",
    "after": "after",
    "tie": "tie",
}


class Side(NamedTuple):
    """One of the two that are compared: a training of a round."""

    key: str
    """As the address of the page names it: ``2``, or ``2:seed-43``."""
    label: str
    round: RoundFolder


@router.get("/compare")
def compare(
    page: ThisPage,
    persona: str,
    number: int,
    before: str = "",
    after: str = "",
    arm: str = "",
    other: str = "",
    at: int = 1,
) -> HTMLResponse:
    """Compare two trainings of the persona: by default the round with the one before it.

    ``arm`` alone shows one arm in both; with ``other`` it is held against that one.
    """
    context = page.round(persona, number)
    sides = _sides(page, context)
    first, second = _chosen(context, sides, before, after)
    known = [evaluated_arms(side.round) for side in (first, second)]
    arms = _arms(first, second, known, arm, other)
    if first == second and arms is None:
        return page.of_round(context, "compare")
    comparison = compare_rounds(first.round, second.round, context.config.seed, arms)
    pairs = answers_beside(first.round, second.round, arms)
    pages = max(1, -(-len(pairs) // SHOWN))
    at = min(max(at, 1), pages)
    values: dict[str, Any] = {
        "sides": sides,
        "first": first,
        "second": second,
        "known": known,
        "arms": arms,
        "comparison": comparison,
        "gone": GONE,
        "main": (FIDELITY, SENSE),
        "pairs": pairs[(at - 1) * SHOWN : at * SHOWN],
        "at": at,
        "pages": pages,
        "votes": {(v.before, v.after): v.better for v in context.round.read_if_there(VOTES)},
    }
    return page.of_round(context, "compare", **values)


def _sides(page: Page, context: RoundContext) -> list[Side]:
    """Return every evaluated training of the persona, and rounds that are split at least."""
    sides = []
    for one in context.round.all_rounds:
        name = page.t("round", number=one.number)
        every = {"": one, **trainings(one)}
        for own, folder in every.items():
            key = f"{one.number}:{own}" if own else str(one.number)
            sides.append(Side(key, page.t.training(name, own), folder))
    return sides


def _chosen(context: RoundContext, sides: list[Side], before: str, after: str) -> tuple[Side, Side]:
    """Return the two that are asked for: the round, and the one before it, by default.

    Raises:
        UserError: There is no such one.
    """
    by_key = {side.key: side for side in sides}
    one = context.round
    usual = one.previous or one
    keys = (before or str(usual.number), after or str(one.number))
    for key in keys:
        if key not in by_key:
            raise UserError(f"there is no training '{key}'", fix=nearest(key, by_key))
    return by_key[keys[0]], by_key[keys[1]]


def _arms(first: Side, second: Side, known: list[list[str]], arm: str, other: str) -> Arms | None:
    """Return the arms that are held against each other; None for each with itself.

    Within one training it is the last trained arm against the base where none is named.
    """
    if first == second and not (arm and other):
        trained = [own for own in known[1] if not is_prompted(own)]
        arm, other = arm or BASE, other or (trained or [""])[-1]
        return (arm, other) if arm != other and {arm, other} <= set(known[0]) else None
    if not arm and not other:
        return None
    return arm or other, other or arm


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
