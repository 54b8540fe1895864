"""``persona review``: the Argilla server, the rows on it, and what people said of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from app.cli import ListedGroup
from app.cli.options import FiniteRange, force_option, overlap_option, round_options
from app.cli.review_tables import (
    agreement_tables,
    decisions_table,
    movement_table,
    outlook_lines,
    pace_table,
    progress_table,
    table_of,
)
from curation.argilla import server_link
from curation.argilla.pull import progress_if_pushed, review_progress
from curation.review.stopping import StopAdvice
from rounds import reviewing
from rounds.context import RoundContext
from rounds.layout import REVIEWS
from rounds.lineage.history import history
from rounds.pipeline import run_stages
from rounds.review_server import ReviewServer
from rounds.reviewing import (
    count_decisions,
    measure_agreement,
    migrate_review,
    pull_reviews,
    push_review,
)
from rounds.stages.review import with_overlap
from workbench.errors import UserError
from workbench.text import counted

LINES = {
    "up": "Start the Argilla server; prints address and logins.",
    "connect": "Or use an Argilla that runs elsewhere.",
    "logins": "Print the address and the reviewers' logins.",
    "push": "Put the filtered rows into the round's dataset.",
    "status": "How far the reviewers are.",
    "pull": "Bring what people said so far into the round.",
    "agreement": "How far the reviewers agree.",
    "adjudicate": "Push what reviewers disagree on to a second dataset.",
    "resolve": "Turn the reviews into a decision per row.",
    "why": "The history of a row, and who said what of it.",
    "close": "Close the account of a reviewer who leaves.",
    "migrate": "Copy the embedded server to the connected one.",
    "down": "Stop the server; everything reviewed is kept.",
}
"""Command → its line in the list, in the order in which they are used."""


@click.group(cls=ListedGroup, lines=LINES)
def review() -> None:
    """Let people review the round's rows in Argilla.

    \b
    Example:
      persona review up && persona review push
    """


def _command(function: Callable[..., object]) -> click.Command:
    return review.command(function.__name__.strip("_"))(round_options(function))


@_command
@click.option("--port", type=click.IntRange(1, 65535), help="Port; a free one by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def up(context: RoundContext, port: int | None, host: str) -> None:
    """Start the Argilla server and print its address and the reviewers' logins.

    \b
    Example:
      persona review up --port 6900
    """
    server = ReviewServer.of(context)
    server.up(port=port, host=host)
    server.stay()
    server.print_logins()


@_command
@overlap_option
def push(context: RoundContext, reviewers_per_record: int | None) -> None:
    """Put the filtered rows into the round's dataset; twice adds nothing twice.

    In a round that has none yet, rows are imported, made by the teacher where there is one, and
    filtered first.

    Imported preference pairs are shown as two answers in random order, and the persona's gold
    rows are strewn among the others. How many review each record is kept in the round.

    \b
    Example:
      persona review push --reviewers-per-record 3
    """
    push_review(with_overlap(context, reviewers_per_record))


@_command
def status(context: RoundContext) -> None:
    """Show how far the reviewers are, and how much of the disagreement queue is adjudicated.

    With `review: {budget: …}` also whether more reviews would change anything. How many seconds
    each reviewer takes for a row is for you alone: it is on no page that reviewers see.

    \b
    Example:
      persona review status
    """
    at = ReviewServer.of(context).connect(), context.persona, context.round.name
    try:
        progress = review_progress(*at)
    except UserError:
        reviewing.check_pushed(context.round)  # says what comes first, where that is why
        raise
    console = Console(soft_wrap=True)
    console.print(progress_table(progress, "complete"))
    if queue := progress_if_pushed(*at, queue=True):
        console.print(progress_table(queue, "adjudicated"))
    now = reviewing.review_state_now(context)
    if now.paces:
        console.print(pace_table(now.paces))
    _tell_outlook(context, now.advice)


def _tell_outlook(context: RoundContext, advice: StopAdvice | None) -> None:
    for line in outlook_lines(advice) if advice else ():
        click.echo(context.options.filled(line))


@_command
def pull(context: RoundContext) -> None:
    """Pull what people said so far into the round; twice gives the same file.

    \b
    Example:
      persona review pull && persona resolve
    """
    pull_reviews(context)
    _tell_outlook(context, reviewing.outlook(context, context.round.read(REVIEWS)))
    click.echo(context.round.path(REVIEWS))


@_command
def logins(context: RoundContext) -> None:
    """Print the address and the reviewers' logins.

    \b
    Example:
      persona review logins
    """
    server = ReviewServer.of(context)
    server.connect()
    server.print_logins()


@_command
@click.argument("name")
@click.option("--reopen", is_flag=True, help="Let the account review again.")
def close(context: RoundContext, name: str, reopen: bool) -> None:
    """Close the account of a reviewer who leaves; its reviews stay.

    The account loses the personas' workspaces: it sees no row, and nobody waits for it. Argilla's
    own way, to delete it, would delete its reviews on the server, too.

    \b
    Example:
      persona review close reviewer-2
    """
    ReviewServer.of(context).open_account(name, context.persona.id if reopen else "")
    click.echo(f"{name} may review again" if reopen else f"{name} is closed; its reviews stay")


@_command
def down(context: RoundContext) -> None:
    """Stop the Argilla server; everything reviewed is kept.

    \b
    Example:
      persona review down
    """
    click.echo("stopped" if ReviewServer.of(context).down() else "was not running")


@_command
@click.argument("url", required=False)
@click.option("--embedded", is_flag=True, help="Go back to the embedded server.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="File that holds an owner's API key. [default: the variable PERSONA_ARGILLA_API_KEY,"
    " else you are asked]",
)
def connect(context: RoundContext, url: str | None, embedded: bool, key_file: Path | None) -> None:
    """Let push, status and pull talk to the Argilla at URL.

    The address is saved beside the embedded server's data. The key never is: it stays in its
    file or variable; one that you type is kept in your user's configuration folder.

    \b
    Example:
      persona review connect https://argilla.example.org --key-file ~/.argilla-key
      persona review connect --embedded
    """
    home = ReviewServer.of(context).home
    if embedded == bool(url):
        raise UserError("needs one of URL and --embedded", where="persona review connect")
    if url is None:
        was = server_link.disconnect(home)
        click.echo("back to the embedded server" if was else "was not connected to another Argilla")
        return
    key = ""
    if key_file is None and not server_link.variable_is_set():
        if not sys.stdin.isatty():
            fix = f"set {server_link.KEY_VARIABLE} or give --key-file"
            raise UserError("no API key", where=url, fix=fix)
        key = click.prompt("API key of an owner", hide_input=True).strip()
    link = server_link.connect(home, url, key=key, key_file=key_file)
    click.echo(f"connected to {link.url}")
    if link.url.startswith("http:") and not link.connection().is_local:
        click.echo("warning: http, not https: the API key can be read on the way", err=True)


@_command
def migrate(context: RoundContext) -> None:
    """Copy all of the embedded server to the connected Argilla.

    Workspaces, accounts, datasets, records, suggestions, vectors and every response, drafts and
    discarded ones too. Nothing is removed, and what is there already is not sent again: after an
    interruption run it once more. New accounts get new passwords, printed once.

    \b
    Example:
      persona review connect https://argilla.example.org && persona review migrate
    """
    migrated, logins = migrate_review(context)
    columns = ("held here", "moved now", "there already", "changed there, kept", "found there")
    table = table_of(f"Moved to {logins.url}", "", *columns, wrap=True)
    for kind, moves in migrated.counts.items():
        cells = (moves.held, moves.moved, moves.already, moves.changed, moves.arrived)
        table.add_row(kind, *map(str, cells))
    Console(soft_wrap=True).print(table)
    if migrated.logins:
        click.echo("New accounts; their passwords are not shown again:")
    for name, password in migrated.logins.items():
        click.echo(f"  user {name}   password {password}")
    logins.forget()


@_command
@click.option(
    "--width",
    type=FiniteRange(0, 2, min_open=True),
    default=0.2,
    show_default=True,
    help="Width of interval to aim at.",
)
def agreement(context: RoundContext, width: float) -> None:
    """Show how far the reviewers agree, on the reviews pulled so far.

    Krippendorff's alpha (1 full agreement, 0 that of chance) with its 95% bootstrap interval, per
    question, topic, pair of reviewers, and of each reviewer with the others and the gold rows; and
    how many more records an interval of the given width needs. Below stands how each reviewer's
    votes move over a session, from its first half to its second.

    \b
    Example:
      persona review agreement --width 0.2
    """
    measured = measure_agreement(context)
    console = Console(soft_wrap=True)
    click.echo(
        f"{counted(measured.records, 'record')} reviewed,"
        f" {measured.overlapping} of them by two or more;"
        f" {measured.resamples} resamples, seed {measured.seed}"
    )
    for table in agreement_tables(measured, context.persona, width):
        console.print(table)
    if movements := reviewing.measure_movements(context):
        console.print(movement_table(movements))


@_command
@force_option
def resolve(context: RoundContext, force: bool) -> None:
    """Turn the reviews into a decision per row, and show the decisions by reason.

    \b
    Example:
      persona review resolve
    """
    run_stages(context, ["resolve"], force=["resolve"] if force else [])
    Console(soft_wrap=True).print(decisions_table(count_decisions(context.round)))
    click.echo(context.round.stage("resolve"))


@_command
def adjudicate(context: RoundContext) -> None:
    """Push what the policy can't settle to a second dataset, both opinions beside each answer.

    One review there is final: `persona review pull` brings it back, and `persona review resolve`
    goes by it.

    \b
    Example:
      persona review pull && persona review adjudicate
    """
    pushed = reviewing.adjudicate(context)
    if pushed is None:
        click.echo("nothing is unsettled")
        return
    click.echo(pushed.line())
    server = ReviewServer.of(context)
    at = server.connect(), context.persona, context.round.name
    server.print_logins(review_progress(*at, queue=True).url)


@_command
@click.argument("name", metavar="ID")
def why(context: RoundContext, name: str) -> None:
    """Tell the history of a row: where it came from, who said what, and what became of it.

    ID is the id of any record of the round or the beginning of one, or the row's source, such as
    seeds.jsonl:17.

    \b
    Example:
      persona review why seeds.jsonl:17
    """
    for line in history(context, name):
        click.echo(line)
