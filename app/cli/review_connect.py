"""``persona review connect`` and ``migrate``: from the embedded server to a team's Argilla."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.review_server import ReviewServer
from workbench.errors import UserError

_PENDING = "new-logins.json"


def add_to(review: click.Group) -> None:
    """Register both commands."""
    review.add_command(connect)
    review.add_command(migrate)


@click.command()
@click.argument("url", required=False)
@click.option("--embedded", is_flag=True, help="Go back to the embedded server.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="File that holds an owner's API key. [default: the variable PERSONA_ARGILLA_API_KEY,"
    " else you are asked]",
)
@round_options
def connect(context: RoundContext, url: str | None, embedded: bool, key_file: Path | None) -> None:
    """Let push, status and pull talk to the Argilla at URL.

    The address is saved beside the embedded server's data. The key never is: it stays in its
    file or variable; one that you type is kept in your user's configuration folder.

    \b
    Example:
      persona review connect https://argilla.example.org --key-file ~/.argilla-key
      persona review connect --embedded
    """
    from curation.argilla import server_link

    home = ReviewServer.of(context).home
    if embedded == bool(url):
        raise UserError("needs one of URL and --embedded", where="persona review connect")
    if embedded:
        was = server_link.disconnect(home)
        click.echo("back to the embedded server" if was else "was not connected to another Argilla")
        return
    assert url
    key = ""
    if key_file is None and not server_link.variable_is_set():
        if not sys.stdin.isatty():
            raise UserError(
                "no API key", where=url, fix=f"set {server_link.KEY_VARIABLE} or give --key-file"
            )
        key = click.prompt("API key of an owner", hide_input=True).strip()
    link = server_link.connect(home, url, key=key, key_file=key_file)
    click.echo(f"connected to {link.url}")
    if link.url.startswith("http:") and not link.connection().is_local:
        click.echo("warning: http, not https: the API key can be read on the way", err=True)


@click.command()
@round_options
def migrate(context: RoundContext) -> None:
    """Copy all of the embedded server to the connected Argilla.

    Workspaces, accounts, datasets, records, suggestions, vectors and every response, drafts and
    discarded ones too. Nothing is removed, and what is there already is not sent again: after an
    interruption run it once more. New accounts get new passwords, printed once.

    \b
    Example:
      persona review connect https://argilla.example.org && persona review migrate
    """
    from curation.argilla.client import Connection
    from curation.argilla.migrate import NewLogins
    from curation.argilla.migrate import migrate as move
    from curation.argilla.server import start, status, stop
    from curation.argilla.server_link import link_of

    home = ReviewServer.of(context).home
    link = link_of(home)
    if link is None:
        raise UserError(
            "not connected to another Argilla", fix="run `persona review connect URL` first"
        )
    if not home.database.exists():
        raise UserError("the embedded server holds nothing yet", where=str(home.path))
    target = link.connection()
    ran = status(home, embedded=True).running
    embedded = start(home, [], reuse=True, embedded=True)
    logins = NewLogins(home.path / _PENDING, link.url)
    try:
        done = move(Connection(embedded.url, embedded.owner_api_key), target, logins)
    finally:
        if not ran:
            stop(home)
    table = Table(title=f"Moved to {link.url}")
    columns = ("held here", "moved now", "there already", "changed there, kept", "found there")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for kind, count in done.counts.items():
        cells = (count.held, count.moved, count.already, count.changed, count.arrived)
        table.add_row(kind, *(str(cell) for cell in cells))
    Console(soft_wrap=True).print(table)
    if done.logins:
        click.echo("New accounts; their passwords are not shown again:")
    for name, password in done.logins.items():
        click.echo(f"  user {name}   password {password}")
    logins.forget()
