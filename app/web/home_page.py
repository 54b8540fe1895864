"""The first page: personas and their rounds, what each waits for, and the next step as a button."""

from __future__ import annotations

from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.web.library import Command, PersonaFolder
from app.web.page import Form, Page, ThisPage, spoken
from rounds.context import RoundContext
from rounds.overview import NextStep, RoundOverview, next_step
from rounds.processes import running
from workbench.errors import UserError

router = APIRouter()


class Card(NamedTuple):
    """A persona on the first page."""

    own: PersonaFolder
    rounds: list[RoundOverview]
    """The last one first."""
    context: RoundContext | None
    """The last round, or the first one to be made; None where it cannot be read."""
    step: NextStep | None
    command: Command | None
    """What the next step's button stands for."""
    line: str
    """The command at work, as one line; empty where none is."""
    errors: list[str]


@router.get("/")
def home(page: ThisPage) -> HTMLResponse:
    """Show every persona with its rounds."""
    return page.show("home", cards=[_card(page, own) for own in page.library.personas()])


def _card(page: Page, own: PersonaFolder) -> Card:
    library = page.library
    rounds = [library.overview(one) for one in reversed(own.rounds)]
    empty = Card(own, rounds, None, None, None, "", own.error.lines() if own.error else [])
    if own.error:
        return empty
    try:
        context = library.context(own.id, own.rounds[-1].number if own.rounds else 1)
    except UserError as error:
        return empty._replace(errors=error.lines())
    step = next_step(context)
    at_work = running(context.round)
    command = step_command(context, step)
    return Card(own, rounds, context, step, command, at_work.line if at_work else "", [])


def step_command(context: RoundContext, step: NextStep) -> Command:
    """Return the command that a next step's button stands for."""
    return Command(context, ("next",) if step.kind == "plan" else ("run",))


@router.post("/language")
def language(request: Request, page: ThisPage, form: Form) -> Response:
    """Show the pages in another language from now on."""
    if form.get("language") in spoken():
        page.session.language = form["language"]
    back = form.get("back", "/")
    return page.go(back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/")
