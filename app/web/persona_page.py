"""A persona: its specification as a form, its versions, traits that its rows propose; a new one.

Mistakes stand beside the field that they are about. What is saved is a new version of the file.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from app.web.library import Command, PersonaFolder
from app.web.page import Form, Page, ThisPage
from curation.proposed_traits import propose_traits
from rounds import specification
from rounds.layout import BASELINE, RESOLVED, RoundFolder
from rounds.specification import FieldMistake, check_text
from rounds.stages.importing import keep_upload
from rounds.status import dependents
from workbench.errors import UserError, every_mistake
from workbench.language import DEFAULT, languages
from workbench.language.packs import known_packs
from workbench.persona import persona_file
from workbench.starter import check_answer, split_topics, starter, write_persona

router = APIRouter()
NEW = ("id", "name", "role", "audience", "address", "topics")
"""Questions of the form for a new persona; its language is a choice."""
MOST_UPLOAD = 256 << 20
"""Bytes of the largest file of rows that is taken."""


@router.get("/new")
def blank(page: ThisPage) -> HTMLResponse:
    """Show the form for a new persona."""
    return page.show("new", fields={}, questions=NEW, codes=_codes(), lines=[])


@router.post("/new")
def new(page: ThisPage, form: Form) -> Response:
    """Write a new persona's folder, and go on to its page."""
    fields = {name: " ".join(form.get(name, "").split()) for name in (*NEW, "language")}
    try:
        every_mistake(partial(_check, page, name, fields[name]) for name in NEW)
        data = starter(
            id=fields["id"],
            language=fields["language"] if fields["language"] in languages() else DEFAULT,
            name=fields["name"],
            role=fields["role"],
            audience=fields["audience"],
            address=fields["address"],
            topics=split_topics(fields["topics"]),
        )
        write_persona(page.library.datasets / fields["id"], data)
    except UserError as error:
        values = {"questions": NEW, "codes": _codes(), "lines": error.lines()}
        return page.show("new", status=422, fields=fields, **values)
    return page.go(f"/round/{fields['id']}/1")


def _codes() -> dict[str, str]:
    """Return the languages that a persona may speak: code → what its speakers call it."""
    return {code: pack.name for code, pack in known_packs().items()}


def _check(page: Page, name: str, answer: str) -> None:
    """Refuse an answer under its question's own words."""
    try:
        check_answer(name, answer)
    except UserError as error:
        raise UserError(error.what, where=page.t(f"new.{name}"), fix=error.fix) from None


@router.get("/persona/{name}")
def show(page: ThisPage, name: str) -> HTMLResponse:
    """Show the specification as a form."""
    own = page.library.persona(name)
    return _form(page, own, specification.read_fields(own.folder), [])


@router.post("/persona/{name}/check")
def check(page: ThisPage, form: Form, name: str) -> HTMLResponse:
    """Show the form again with the mistakes of what was written, and save nothing."""
    own = page.library.persona(name)
    return _form(page, own, form, specification.check_fields(own.folder, form))


@router.post("/persona/{name}")
def save(page: ThisPage, form: Form, name: str) -> Response:
    """Write a new version, or show the mistakes beside their fields."""
    own = page.library.persona(name)
    mistakes = specification.check_fields(own.folder, form)
    if not mistakes:
        try:
            specification.save_version(own.folder, form, form.get("why", ""))
            return page.go(f"/persona/{name}?saved=1")
        except UserError as error:
            mistakes = [FieldMistake("why", error.what)]
    return _form(page, own, form, mistakes, status=422)


def _form(
    page: Page,
    own: PersonaFolder,
    fields: dict[str, str],
    mistakes: list[FieldMistake],
    status: int = 200,
) -> HTMLResponse:
    one = own.rounds[-1] if own.rounds else None
    beside: dict[str, list[str]] = {}
    for mistake in mistakes:
        beside.setdefault(mistake.field, []).append(mistake.text)
    traits = own.persona.traits if own.persona else ()
    numbers = [n for n in specification.numbers(fields) if fields.get(f"traits.{n}.name")]
    keys = [f"traits.{number}.{key}" for number in numbers for key in specification.TRAIT]
    fields = {**dict.fromkeys((*specification.TEXTS, *specification.LISTS, *keys), ""), **fields}
    values: dict[str, Any] = {
        "own": own,
        "fields": fields,
        "mistakes": beside,
        "numbers": numbers,
        "texts": specification.TEXTS,
        "lists": specification.LISTS,
        "versions": specification.versions(own.folder),
        "hanging": dependents(one, file="persona.yaml") if one else [],
        "saved": "saved" in page.request.query_params,
        "check_text": check_text,
        "ids": [trait.id for trait in traits],
        **_measured(page, own, one),
    }
    return page.show("persona", status=status, **values)


def _measured(page: Page, own: PersonaFolder, one: RoundFolder | None) -> dict[str, Any]:
    """Return how many answers of the last round show each trait, and what its rows propose."""
    persona = own.persona
    if one is None or persona is None:
        return {"rates": {}, "proposals": []}
    files = [one.path(RESOLVED), one.path(BASELINE), persona_file(own.folder)]

    def measure() -> dict[str, Any]:
        answers, base = specification.answers_of(one)
        rates = specification.trait_rates(persona, answers, base)
        return {
            "rates": {rate.trait: rate for rate in rates},
            "proposals": propose_traits(answers, base),
        }

    return page.library.cache.get(("measured", str(one.folder)), files, measure)


@router.post("/round/{name}/{number}/rows")
async def upload(page: ThisPage, name: str, number: int) -> Response:
    """Take a file of rows, and import it into the round."""
    context = page.round(name, number, made=False)
    content = bytearray()
    async for chunk in page.request.stream():
        content += chunk
        if len(content) > MOST_UPLOAD:
            raise UserError(f"the file is larger than {MOST_UPLOAD >> 20} MiB")
    path = keep_upload(context, page.request.query_params.get("name", ""), bytes(content))
    Command(context, ("import", str(path))).start()
    return page.go(f"/round/{name}/{number}")
