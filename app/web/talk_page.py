"""Talk with the arms of a round side by side: answers as they come, rated, mended, branched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from markupsafe import escape

from app.web.page import Form, Page, ThisPage
from app.web.round_page import event
from rounds import notes
from rounds.context import RoundContext
from rounds.processes import running
from rounds.talks import Talk, arms_of
from workbench.errors import UserError, nearest
from workbench.records import Messages

router = APIRouter(prefix="/round/{persona}/{number}/talk")


@router.get("")
def show(page: ThisPage, persona: str, number: int, talk: str = "") -> HTMLResponse:
    """Show a conversation, or an empty one to begin."""
    context = page.round(persona, number)
    own = _own(page, context, talk) if talk else None
    return page.of_round(context, "talk", **_values(page, own, context))


def _values(page: Page, own: Talk | None, context: RoundContext) -> dict[str, Any]:
    turns = {}
    if own:
        turns = {
            arm: [m for m in messages if m.role != "system"]
            for arm, messages in own.messages.items()
        }
    return {
        "talk": own,
        "turns": turns,
        "arms": arms_of(context),
        "busy": running(context.round) is not None,
        "mended": len(context.round.read_if_there(notes.MENDED)),
        "topic_of": cache(page.library.table(context.round).topic_of),
    }


@router.post("")
def ask(page: ThisPage, form: Form, persona: str, number: int) -> Response:
    """Ask a question: the conversation begins or goes on."""
    context = page.round(persona, number)
    question = form.get("question", "").strip()
    if not question:
        raise UserError(page.t("talk.empty"))
    if name := form.get("talk"):
        own = _own(page, context, name)
    else:
        chosen = [arm for arm in arms_of(context) if form.get(f"arm.{arm}")]
        own = page.talks.begin(context, chosen)
    own.asked = question
    return page.go(f"/round/{persona}/{number}/talk?talk={own.id}")


@router.get("/stream")
def stream(page: ThisPage, persona: str, number: int, talk: str) -> StreamingResponse:
    """Send what each arm answers, as it comes, and at last the conversation as it stands."""
    context = page.round(persona, number)
    own = _own(page, context, talk)

    def events() -> Iterator[str]:
        try:
            for piece in page.talks.answer(context, own):
                yield event(f"arm-{own.arms.index(piece.arm)}", str(escape(piece.text)))
        except UserError as error:
            yield event("trouble", str(escape(error.line())))
            return
        values = {**page.about(context), **_values(page, own, context)}
        yield event("talk", page.html("talk_turns", **values))

    return StreamingResponse(events(), media_type="text/event-stream")


@router.post("/say")
def say(page: ThisPage, form: Form, persona: str, number: int) -> Response:
    """Rate or mend an answer, or go on from an earlier turn."""
    context = page.round(persona, number)
    own, arm = _own(page, context, form.get("talk", "")), form.get("arm", "")
    turn = int(form["turn"]) if form.get("turn", "").isdecimal() else -1
    prompt, text = _answer(own, arm, turn)
    action = form.get("do", "")
    if action in ("good", "bad"):
        notes.rate(context.round, arm, prompt, text, good=action == "good")
        return HTMLResponse(page.t(f"talk.rated.{action}"))
    if action == "mend":
        answer, note, topic = (form.get(name, "") for name in ("answer", "note", "topic"))
        if topic and topic not in context.persona.topics:
            raise UserError(
                f"there is no topic '{topic}'", fix=nearest(topic, context.persona.topics)
            )
        notes.mend(context.round, arm, prompt, text, answer, note, topic)
        return HTMLResponse(page.t("talk.mended"))
    if action == "branch":
        own.branch(arm, turn + 1)
        return page.go(f"/round/{persona}/{number}/talk?talk={own.id}")
    raise HTTPException(422, action)


def _own(page: Page, context: RoundContext, name: str) -> Talk:
    own = page.talks.talk(name)
    if own.round != context.round:
        raise UserError("this conversation is of another round")
    return own


def _answer(own: Talk, arm: str, turn: int) -> tuple[Messages, str]:
    """Return the conversation up to an answer of an arm, and the answer."""
    messages = own.messages.get(arm, ())
    system = [message for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if not 0 <= turn < len(turns) or turns[turn].role != "assistant":
        raise UserError(f"there is no answer {turn} of '{arm}'")
    return (*system, *turns[:turn]), turns[turn].content
