"""``persona review``: the Argilla server, the rows on it, and what people said of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.cli import ListedGroup
from app.cli.options import FiniteRange, force_option, overlap_option, round_options
from curation.argilla import server_link
from curation.argilla.pull import Progress, progress_if_pushed, review_progress
from curation.review.agreement import Agreement
from rounds import reviewing
from rounds.context import RoundContext
from rounds.layout import REVIEWS
from rounds.lineage.history import history
from rounds.pipeline import run_stages
from rounds.review_server import ReviewServer
from rounds.reviewing import (
    DecisionCount,
    count_decisions,
    measure_agreement,
    migrate_review,
    pull_reviews,
    push_review,
)
from rounds.stages.review import with_overlap
from workbench.errors import UserError
from workbench.stats.agreement import RaterAgreement
from workbench.text import counted

_CELLS = ": alpha, and its 95% interval"
"""What the cells of a table hold."""


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
    push_review(with_overlap(context, reviewers_per_record))


@_command
def status(context: RoundContext) -> None:
    """Show how far the reviewers are, and how much of the disagreement queue is adjudicated.

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


def progress_table(progress: Progress, done: str) -> Table:
    """Return how far the reviewers are, in all and one by one; ``done`` says with what."""
    title = f"{progress.dataset}: {progress.completed} of {progress.total} {done}"
    table = _table(title, "reviewer", "submitted", "discarded", "drafts", "left")
    if progress.needed < sum(one.left for one in progress.reviewers.values()):
        # What one reviewer does, others need not do: their numbers are no sum of work.
        table.caption = f"{counted(progress.needed, 'review')} needed in all, whoever gives them"
    for name, one in progress.reviewers.items():
        table.add_row(name, *map(str, (one.submitted, one.discarded, one.drafts, one.left)))
    return table


@_command
def pull(context: RoundContext) -> None:
    """Pull what people said so far into the round; twice gives the same file.

    \b
    Example:
      persona review pull && persona resolve
    """
    pull_reviews(context)
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
    table = _table(f"Moved to {logins.url}", "", *columns, wrap=True)
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
    how many more records an interval of the given width needs.

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
    console.print(_by_question(measured, width))
    topics = {context.persona.topic_name(name): part for name, part in measured.topics.items()}
    console.print(_by_part("topic", topics))
    console.print(_by_part("pair of reviewers", measured.pairs))
    console.print(_by_reviewer(measured))
    if any(one.gold_seen for one in measured.reviewers.values()):
        console.print(_on_gold(measured))


def _by_question(measured: Agreement, width: float) -> Table:
    title = f"Agreement by question; more needed: records for an interval of {width:g}"
    table = _table(title, "question", "alpha", "95% interval", "records", "more needed")
    same = {name for name, one in measured.questions.items() if one.value is None}
    for name, one in measured.questions.items():
        if name in same:
            continue
        needed = one.rows_needed(width)
        more = "–" if needed is None else str(needed - one.rows)
        table.add_row(name, *_value_and_interval(one), str(one.rows), more)
    if same:
        # Without a single difference there is nothing that chance could be told from.
        table.caption = f"No alpha where all gave the same answer: {', '.join(sorted(same))}"
    return table


def _by_part(what: str, parts: Mapping[str, Mapping[str, RaterAgreement]]) -> Table:
    columns = ("fidelity", "decision", "better")
    names = [name for name in columns if any(name in questions for questions in parts.values())]
    table = _table(f"Agreement by {what}{_CELLS}", what, *names, "records")
    for part, questions in parts.items():
        cells = [_one_cell(questions.get(name)) for name in names]
        table.add_row(part, *cells, str(questions["fidelity"].rows))
    return table


def _by_reviewer(measured: Agreement) -> Table:
    table = _table(f"Reviewers{_CELLS}", "reviewer", "reviews", "with the others", "reliability")
    for name, one in measured.reviewers.items():
        reliability = "–" if one.reliability is None else f"{one.reliability:.2f}"
        table.add_row(name, str(one.reviews), _one_cell(one.consensus), reliability)
    return table


def _on_gold(measured: Agreement) -> Table:
    title = f"Reviewers on the gold rows{_CELLS}"
    table = _table(title, "reviewer", "with the known outcomes", "right")
    for name, one in measured.reviewers.items():
        table.add_row(name, _one_cell(one.gold), f"{one.gold_right} of {one.gold_seen}")
    return table


def _table(title: str, first: str, *others: str, wrap: bool = False) -> Table:
    """Return a table without rows; with ``wrap``, headings take two lines where it is narrow."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=not wrap)
    return table


def _value_and_interval(one: RaterAgreement) -> tuple[str, str]:
    """Return alpha and its interval as text; a dash where there is none."""
    value = "–" if one.value is None else f"{one.value:.2f}"
    if one.low is None or one.high is None:
        return value, "–"
    return value, f"{one.low:.2f} to {one.high:.2f}"


def _one_cell(one: RaterAgreement | None) -> str:
    """Return alpha and its interval in one cell, which is alpha alone where there is none."""
    if one is None or one.value is None:
        return "–"
    if one.low is None or one.high is None:
        return f"{one.value:.2f}"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


@_command
@force_option
def resolve(context: RoundContext, force: bool) -> None:
    """Turn the reviews into a decision per row, and show the decisions by reason.

    \b
    Example:
      persona review resolve
    """
    run_stages(context, ["resolve"], force=["resolve"] if force else [])
    Console(soft_wrap=True).print(_decisions(count_decisions(context.round)))
    click.echo(context.round.stage("resolve"))


def _decisions(counts: list[DecisionCount]) -> Table:
    table = Table(title="Decisions", title_justify="left")
    for name in ("decision", "reason", "rows", "share", "such as"):
        table.add_column(name, justify="right" if name in ("rows", "share") else "left")
    for one in counts:
        share = "" if one.share is None else f"{one.share:.0%}"
        table.add_row(one.decision, one.reason, str(one.rows), share, one.example)
    table.add_section()
    total = sum(one.rows for one in counts if one.share is not None)
    table.add_row("all", "", str(total), "", "")
    return table


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
