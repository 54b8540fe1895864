"""A round, live: its stages, what the running one does, curves as they grow, the last log lines.

Everything that moves comes as server-sent events, a part at a time and only where it changed. What
is started runs as a process of its own (:mod:`rounds.processes`), so that neither a closed page nor
an ended server stops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from app.web.home_page import step_command
from app.web.library import Command
from app.web.page import Form, Page, ThisPage
from evaluation.report.page import charts
from rounds import processes
from rounds.context import RoundContext, presets
from rounds.layout import IMPORTED, STAGES
from rounds.overview import next_step
from rounds.status import dependents, live_curves, main_counts, review_state, round_status
from workbench.console import OLD
from workbench.errors import UserError, nearest

router = APIRouter(prefix="/round/{persona}/{number}")
EVERY = 0.8
"""Seconds between two looks at a round: what runs says anew what it does once a second, so that
nothing on the page is two seconds old. A look costs 4 ms of one core."""
LOG = 60
"""Log lines that are shown."""


@router.get("")
def show(page: ThisPage, persona: str, number: int) -> HTMLResponse:
    """Show the round as it is now; what moves follows by events."""
    context = page.round(persona, number, made=False)
    values: dict[str, Any] = {"live": _parts(page, context), "presets": presets(), "stages": STAGES}
    again = {one: dependents(context.round, stage=one) for one in STAGES if context.round.done(one)}
    commands = {one: Command(context, ("run", "--force", one)).typed for one in again}
    values |= {"again": again, "commands": commands}
    values["uploads"] = _imports_alone(again)
    values["upload_command"] = Command(context, ("import", page.t("upload.file"))).typed
    return page.of_round(context, "round", **values)


@router.get("/live")
async def live(page: ThisPage, persona: str, number: int) -> StreamingResponse:
    """Send the parts of the page that changed, until it is closed."""

    def look() -> dict[str, Markup]:
        return _parts(page, page.round(persona, number, made=False))

    async def events() -> AsyncIterator[str]:
        seen: dict[str, Markup] = {}
        while not await page.request.is_disconnected():
            try:
                parts = await run_in_threadpool(look)
            except (UserError, OSError):  # a stage that ends takes its files away: look again
                parts = seen
            changed = {name: own for name, own in parts.items() if seen.get(name) != own}
            for name, own in changed.items():
                yield event(name, own)
            if not changed:
                yield ": nothing new\n\n"
            seen = parts
            await asyncio.sleep(EVERY)

    return StreamingResponse(events(), media_type="text/event-stream")


def event(name: str, data: str) -> str:
    """Return a server-sent event."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"


def _parts(page: Page, context: RoundContext) -> dict[str, Markup]:
    one = context.round
    status = round_status(context, review=False)
    process = processes.last_process(one)
    at_work = process is not None and process.alive
    step = next_step(context)
    values: dict[str, Any] = {
        **page.about(context),
        "status": status,
        "process": process,
        "at_work": at_work,
        "code": None if at_work else processes.exit_code(one),
        "busy": at_work or status.is_running,
        "memory": processes.memory_mib(process) if process and at_work else None,
        "progress": next((s.progress for s in status.stages if s.progress), None),
        "step": step,
        "command": step_command(context, step),
        "old": OLD,
        "counts": main_counts,
        "charts": charts(live_curves(one), page.t.report(context.persona)),
        "log": processes.log_lines(one, LOG),
        "presets": presets(),
        "resizable": _imports_alone(stage.stage for stage in status.stages if stage.manifest),
        "stages": STAGES,
    }
    names = ("now", "stages", "curves", "log")
    return {name: page.html(f"live_{name}", **values) for name in names}


def _imports_alone(done: Iterable[str]) -> bool:
    """Return whether nothing was made of the rows yet: others can be brought, a size chosen."""
    return not set(done) - {IMPORTED.stage}


@router.post("/start")
def start(page: ThisPage, form: Form, persona: str, number: int) -> Response:
    """Start the round's stages, all that is to do, up to one, or one again."""
    context = page.round(persona, number, made=False)
    words: list[str] = ["run"]
    for name, option in (("until", "--until"), ("force", "--force")):
        if value := form.get(name):
            words += [option, _stage(value)]
    if (preset := form.get("preset")) and preset in presets():
        words += ["--preset", preset]
    return _started(page, Command(context, tuple(words)))


@router.post("/plan")
def plan(page: ThisPage, persona: str, number: int) -> Response:
    """Open the next round from this one."""
    return _started(page, Command(page.round(persona, number), ("next",)))


@router.post("/stop")
def stop(page: ThisPage, persona: str, number: int) -> Response:
    """Stop the command at work; what is finished stays."""
    context = page.round(persona, number)
    if not processes.stop(context.round):
        raise HTTPException(409, page.t("error.nothing_runs"))
    return page.go(f"/round/{persona}/{number}")


@router.get("/waiting")
def waiting(page: ThisPage, persona: str, number: int) -> HTMLResponse:
    """Show whom the round waits for: a part of a page."""
    context = page.round(persona, number, made=False)
    state = review_state(context)
    error = state if isinstance(state, UserError) else None
    return page.of_round(context, "waiting", progress=None if error else state, error=error)


def _started(page: Page, command: Command) -> Response:
    page.talks.close()  # a stage needs the memory more
    command.start()
    one = command.context
    return page.go(f"/round/{one.persona.id}/{one.round.number}")


def _stage(name: str) -> str:
    if name not in STAGES:
        raise UserError(f"there is no stage '{name}'", fix=nearest(name, STAGES))
    return name
