"""``persona review``: the Argilla server, the rows on it, and what people said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from app.cli import review_connect, review_results
from app.cli.options import overlap_option, round_options
from rounds.context import RoundContext
from rounds.layout import FILTERED, REVIEWS
from rounds.review_server import ReviewServer
from rounds.stages.review import push_rows, review_rows, review_stage, with_overlap

if TYPE_CHECKING:
    from curation.argilla.pull import Progress


@click.group()
def review() -> None:
    """Let people review the round's rows in Argilla.

    \b
    Example:
      persona review up && persona review push
    """


def _command(function: Callable[..., Any]) -> click.Command:
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
    from rounds.pipeline import run_stages

    context = with_overlap(context, reviewers_per_record)
    connection = ReviewServer.of(context).connect()
    if not context.round.has(FILTERED):
        taught = ("generate",) if context.config.teacher else ()
        run_stages(context, ("import", *taught, "filter"))
    push_rows(context, connection, review_rows(context, context.round, people=True))
    with context.round.locked():
        context.remember()


@_command
def status(context: RoundContext) -> None:
    """Show how far the reviewers are, and how much of the disagreement queue is adjudicated.

    \b
    Example:
      persona review status
    """
    from curation.argilla.pull import queue_progress, review_progress

    at = ReviewServer.of(context).connect(), context.persona, context.round.name
    Console(soft_wrap=True).print(_table(review_progress(*at), "complete"))
    if queue := queue_progress(*at):
        Console(soft_wrap=True).print(_table(queue, "adjudicated"))


def _table(progress: Progress, done: str) -> Table:
    title = f"{progress.dataset}: {progress.completed} of {progress.total} {done}"
    table = Table(title=title, title_justify="left")
    for name in ("reviewer", "submitted", "discarded", "drafts", "left"):
        table.add_column(name, justify="left" if name == "reviewer" else "right")
    for name, one in progress.reviewers.items():
        cells = (one.submitted, one.discarded, one.drafts, one.left)
        table.add_row(name, *(str(cell) for cell in cells))
    return table


@_command
def pull(context: RoundContext) -> None:
    """Pull what people said so far into the round; twice gives the same file.

    \b
    Example:
      persona review pull && persona resolve
    """
    from rounds.pipeline import run_spec

    ReviewServer.of(context).connect()
    run_spec(context.waiting(), review_stage(context.waiting(), wait=False))
    click.echo(context.round.path(REVIEWS))


@_command
def logins(context: RoundContext) -> None:
    """Print the address and the reviewers' logins.

    \b
    Example:
      persona review logins
    """
    ReviewServer.of(context).print_logins()


@_command
def down(context: RoundContext) -> None:
    """Stop the Argilla server; everything reviewed is kept.

    \b
    Example:
      persona review down
    """
    click.echo("stopped" if ReviewServer.of(context).down() else "was not running")


review_connect.add_to(review)
review_results.add_to(review)
