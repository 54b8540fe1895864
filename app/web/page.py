"""What every page is made with: the reader's language, the library, templates, and refusals.

In: a request that the guard let through. Out: a :class:`Page`, which handlers take as a dependency
and which renders a template with the phrases of the reader's language.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from app.web.guard import Session, read_form, session_of
from app.web.library import Library
from evaluation.report.wording import Wording
from rounds.context import RoundContext
from rounds.talks import TalkRoom
from workbench.errors import UserError
from workbench.language import DEFAULT
from workbench.language import phrases as report_phrases
from workbench.language.packs import PAGES, check_pack, known_packs, pack_file, read_words
from workbench.persona import Language, Persona

if TYPE_CHECKING:
    from jinja2 import Environment

TABS = ("", "rows", "talk", "compare", "review", "report")
"""Pages of a round, by the end of their address."""


def spoken() -> dict[str, str]:
    """Return the languages that the pages are written in: code → what its speakers call it."""
    offered = {}
    for code, pack in known_packs().items():
        with suppress(UserError):  # a page cannot be shown in a pack that is not whole
            check_pack(code)
            if pack_file(code, PAGES).is_file():
                offered[code] = pack.name
    return offered


def phrases(language: str) -> dict[str, str]:
    """Return the phrases of the pages in a language, by their key."""
    return read_words(pack_file(language, PAGES))


class Words:
    """The phrases of the pages in one language; in templates ``t``."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """Return a phrase with ``values`` filled in."""
        return phrases(self.language)[key].format(**values)

    def known(self, group: str, name: str) -> str:
        """Return ``group.name`` of the pages or else of the report; the bare name without one."""
        own = phrases(self.language).get(f"{group}.{name}")
        known = report_phrases(self.language).get(f"report.{group}.{name}")
        return own or known or name.replace("_", " ")

    def training(self, round_name: str, name: str) -> str:
        """Return what a training of a round is called; ``name`` is empty for the round's own."""
        if not name:
            return round_name
        kind, _, which = name.partition("-")
        if kind == "seed":
            return self("training.seed", round=round_name, seed=which)
        return self("training.without", round=round_name, group=f"{kind} {which}")

    def report(self, persona: Persona) -> Wording:
        """Return the report's wording of a persona, in the language of the page."""
        return Wording(persona.model_copy(update={"language": self.language}))


@lru_cache(maxsize=1)
def templates() -> Environment:
    """Return the templates of the pages; every text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("app.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Page:
    """One request: who asks, in which language, and what is looked at."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.session: Session = session_of(request)
        self.library: Library = request.app.state.library
        self.talks: TalkRoom = request.app.state.talks
        self.t = Words(self._language())
        self.talks.close(idle=True)

    def _language(self) -> Language:
        if self.session.language in spoken():
            return self.session.language
        first = self.request.headers.get("accept-language", "")[:2].lower()
        return first if first in spoken() else DEFAULT

    def html(self, template: str, **values: object) -> Markup:
        """Return a template, rendered."""
        return Markup(
            templates()
            .get_template(f"{template}.html.j2")
            .render(t=self.t, csrf=self.session.csrf, languages=spoken(), **values)
        )

    def show(self, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
        """Return a template as the answer."""
        return HTMLResponse(self.html(template, path=self.request.url.path, **values), status)

    def of_round(self, context: RoundContext, template: str, **values: Any) -> HTMLResponse:
        """Return a page of a round, with its heading and its tabs."""
        return self.show(template, **self.about(context), **values)

    def about(self, context: RoundContext) -> dict[str, Any]:
        """Return what templates of a round need of it."""
        return {
            "context": context,
            "persona": context.persona,
            "round": context.round,
            "tabs": TABS,
            "url": f"/round/{context.persona.id}/{context.round.number}",
            "w": self.t.report(context.persona),
        }

    def round(self, persona: str, number: int, *, made: bool = True) -> RoundContext:
        """Return a round that is asked for by its address.

        Raises:
            HTTPException: There is none; ``made`` wants it on disk.
            UserError: Its configuration or persona is broken.
        """
        context = self.library.context(persona, number)
        if made and not context.round.folder.is_dir():
            raise HTTPException(404, self.t("error.no_round", round=context.round.name))
        return context

    def go(self, address: str) -> Response:
        """Send the browser on to another page."""
        if self.request.headers.get("hx-request"):
            return Response(headers={"HX-Redirect": address})
        return RedirectResponse(address, 303)


ThisPage = Annotated[Page, Depends(Page)]
Form = Annotated[dict[str, str], Depends(read_form)]


def refusal(request: Request, status: int, lines: list[str]) -> Response:
    """Return a page that says what went wrong; of a part of a page only the words."""
    if "session" not in request.scope:
        return HTMLResponse("", status)
    page = Page(request)
    part = bool(request.headers.get("hx-request"))
    return page.show("refusal_part" if part else "refusal", status=status, lines=lines)


async def user_mistake(request: Request, error: Exception) -> Response:
    """Answer a mistake of the user: every line of it, nothing else."""
    assert isinstance(error, UserError)
    return refusal(request, 409, error.lines())


async def http_mistake(request: Request, error: Exception) -> Response:
    """Answer a request for what is not there, or may not be."""
    status = getattr(error, "status_code", 500)
    return refusal(request, status, [str(getattr(error, "detail", "") or status)])
