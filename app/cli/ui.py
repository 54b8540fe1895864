"""The command that serves the pages."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from app.cli.options import personas_option, runs_option


@click.command("ui")
@runs_option
@personas_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True)
def ui(runs: Path, folder: Path, host: str, port: int) -> None:
    """Serve personas and rounds as pages, until Ctrl-C; what was started there goes on.

    The link that is printed opens them: it holds a random token. They are on loopback, for this
    machine alone. With another --host everybody who reaches that address and has the link can read
    and change all, and nothing on the way is encrypted.

    \b
    Examples:
      persona ui
      persona ui --port 9000 --runs runs
    """
    from app.web import server
    from app.web.library import Library

    server.free_port(host, port)
    token = secrets.token_urlsafe(24)
    if host not in (server.LOOPBACK, "localhost", "::1"):
        click.echo(
            f"persona: {host} is not loopback: whoever reaches it and has the link can read and"
            " change all, and nothing on the way is encrypted",
            err=True,
        )
    library = Library(runs, folder)
    library.warm()
    app = server.site(library, token=token, host=host, port=port)
    click.echo(server.link(host, port, token))
    server.serve(app, host, port)
