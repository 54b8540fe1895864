"""Who may see and change the pages: one link with a random token, one session, one address.

In: every request. Out: an answer with strict headers, or a refusal before any page sees it. The
pages know of it only the session: its language, and the token that every change carries.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; frame-src 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
INSIDE = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'self'; sandbox allow-same-origin"
)
"""Of a report, which is shown inside a page: it has styles of its own and runs nothing."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # With no-referrer a browser calls the origin of its own forms null.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
CSRF = "x-persona-token"
"""Header of a change; a form has a field ``csrf`` instead."""
MOST_FORM = 4 << 20
"""Bytes of the largest form that is read."""
_SAFE = ("GET", "HEAD")


@dataclass
class Session:
    """What is remembered of one browser, in memory only."""

    language: str = ""
    """As the reader chose it; the browser's own by default."""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))


@dataclass
class Guard:
    """ASGI middleware: host, session and headers of every request.

    ``token`` opens a session; ``hosts`` are the names that the server goes by. Any name that is not
    among them is refused, so that no page of another site can reach the server under its own name.
    """

    app: ASGIApp
    token: str
    hosts: Sequence[str]
    port: int
    any_address: bool = False
    """Whether the server listens on all addresses: any that is no name is then its own."""
    sessions: dict[str, Session] = field(default_factory=dict)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie; cookies know no ports, so the name does."""
        return f"persona-ui-{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if refusal := self._refusal(request):
            await PlainTextResponse(refusal, 403)(scope, receive, with_headers(send))
            return
        if self._opens(request):
            await self._opened()(scope, receive, with_headers(send))
            return
        session = self.sessions.get(request.cookies.get(self.cookie, ""))
        if session is None:
            text = "Open the link that `persona ui` printed: it holds the key to these pages.\n"
            await PlainTextResponse(text, 403)(scope, receive, with_headers(send))
            return
        scope["session"] = session
        await self.app(scope, receive, with_headers(send))

    def _refusal(self, request: Request) -> str:
        """Return why a request is of another site; empty where it is none."""
        if not self._is_own(request.headers.get("host", "")):
            return "This server does not go by that name.\n"
        origin = request.headers.get("origin")
        if origin is not None and not self._is_own(urlsplit(origin).netloc):
            return "Another site asked for this.\n"
        if request.headers.get("sec-fetch-site", "none") == "cross-site" and not self._opens(
            request
        ):
            return "Another site asked for this.\n"
        return ""

    def _is_own(self, netloc: str) -> bool:
        try:
            parts = urlsplit(f"//{netloc}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if port != self.port:
            return False
        if name in self.hosts:
            return True
        try:
            return self.any_address and bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _opens(self, request: Request) -> bool:
        token = parse_qs(request.url.query).get("token", [""])[0]
        is_first = request.method == "GET" and request.url.path == "/" and bool(token)
        return is_first and secrets.compare_digest(token.encode(), self.token.encode())

    def _opened(self) -> RedirectResponse:
        name = secrets.token_urlsafe(32)
        self.sessions[name] = Session()
        response = RedirectResponse("/", 303)
        response.set_cookie(self.cookie, name, httponly=True, samesite="strict", path="/")
        return response


def with_headers(send: Send) -> Send:
    """Return ``send`` with the strict headers on every answer that does not set its own."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent


def session_of(request: Request) -> Session:
    """Return the session of a request that the guard let through."""
    session: Session = request.scope["session"]
    return session


async def check_change(request: Request) -> None:
    """Refuse a change that does not carry the session's token: a dependency of every page."""
    if request.method in _SAFE:
        return
    token = request.headers.get(CSRF, "")
    if not token:
        token = (await read_form(request)).get("csrf", "")
    if not secrets.compare_digest(token.encode(), session_of(request).csrf.encode()):
        raise HTTPException(403, "This form is not of these pages; load the page again.")


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form, the last one of each name: a dependency.

    Raises:
        HTTPException: It is larger than :data:`MOST_FORM`.
    """
    if request.headers.get("content-type", "").partition(";")[0] != (
        "application/x-www-form-urlencoded"
    ):
        return {}
    if int(request.headers.get("content-length") or 0) > MOST_FORM:
        raise HTTPException(413, f"The form is larger than {MOST_FORM >> 20} MiB.")
    body = (await request.body())[: MOST_FORM + 1]
    values = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: own[-1] for name, own in values.items()}
