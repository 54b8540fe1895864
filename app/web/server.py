"""The server of the pages: put together here, run on loopback until Ctrl-C.

In: the folders of personas and runs, and an address. Out: the pages, at a link with a random token.
Called by ``persona ui``. It holds nothing that is not on disk: ended, it stops no stage.
"""

from __future__ import annotations

import gc
import socket
import threading
from importlib.resources import files

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.middleware import Middleware

from app.web import (
    compare_page,
    home_page,
    persona_page,
    report_page,
    round_page,
    rows_page,
    talk_page,
)
from app.web.guard import Guard, check_change
from app.web.library import Library
from app.web.page import http_mistake, templates, user_mistake
from rounds.talks import TalkRoom
from workbench.errors import UserError

LOOPBACK = "127.0.0.1"
PORT = 8765
ALL = ("0.0.0.0", "::")
PAGES = (
    home_page,
    persona_page,
    round_page,
    rows_page,
    talk_page,
    compare_page,
    report_page,
)
_STATIC = {
    "htmx.min.js": "text/javascript",
    "htmx-sse.min.js": "text/javascript",
    "page.js": "text/javascript",
    "page.css": "text/css",
}


def site(library: Library, *, token: str, host: str = LOOPBACK, port: int = PORT) -> FastAPI:
    """Return the pages as an ASGI application.

    Args:
        library: What they show.
        token: The secret of the first link.
        host: The address that is listened on; requests have to name it, or loopback.
        port: Its port.
    """
    hosts = [LOOPBACK, "localhost", "::1", host.strip("[]")]
    if host in ALL:
        hosts.append(socket.gethostname())
    guard = Middleware(Guard, token=token, hosts=hosts, port=port, any_address=host in ALL)
    app = FastAPI(
        title="Persona Workbench",
        middleware=[guard],
        dependencies=[Depends(check_change)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.library = library
    app.state.talks = TalkRoom()
    app.add_exception_handler(UserError, user_mistake)
    app.add_exception_handler(HTTPException, http_mistake)
    app.add_exception_handler(404, http_mistake)
    app.add_exception_handler(RequestValidationError, http_mistake)
    for name in templates().list_templates():  # compiled now, so that no first page waits for it
        templates().get_template(name)
    app.get("/static/{name}")(_static)
    for page in PAGES:
        app.include_router(page.router)
    return app


def _static(name: str) -> Response:
    if name == "report.css":
        text = files("evaluation.report").joinpath("style.css").read_text(encoding="utf-8")
        return Response(text, media_type="text/css")
    if name not in _STATIC:
        raise HTTPException(404, name)
    text = files("app.web").joinpath(f"static/{name}").read_text(encoding="utf-8")
    return Response(text, media_type=_STATIC[name])


def free_port(host: str, port: int) -> int:
    """Return ``port``.

    Raises:
        UserError: Somebody listens there already, or the machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            what = f"cannot listen on {host}, port {port} ({error.strerror or error})"
            raise UserError(what, where="--port", fix="choose another one") from None
    return port


def link(host: str, port: int, token: str) -> str:
    """Return the first link, which opens a session."""
    name = LOOPBACK if host in ALL else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/?token={token}"


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve the pages until Ctrl-C; what they show first is read ahead."""
    library: Library = app.state.library
    threading.Thread(target=library.keep_warm, daemon=True).start()
    gc.freeze()  # what was read stays: the collector need not walk through it again and again
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1)
