"""``persona review agreement``, ``resolve``, ``adjudicate`` and ``why``: what reviews amount to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.layout import DECISIONS, RESOLVE_DROPS, REVIEWS
from rounds.review_server import ReviewServer
from rounds.stages.resolve import Reviewed, measure
from workbench.errors import UserError
from workbench.records import Decision, Drop

if TYPE_CHECKING:
    from curation.review.agreement import Agreement
    from workbench.stats.agreement import RaterAgreement


_SHOWN = ": alpha, and its 95% interval"
"""What the cells of a table hold."""


def add_to(review: click.Group) -> None:
    """Register the commands."""
    for command in (agreement, resolve, adjudicate, why):
        review.add_command(command)


@click.command()
@round_options
@click.option(
    "--width",
    type=click.FloatRange(0, 2, min_open=True),
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
    _pulled(context)
    measured = measure(context, Reviewed.read(context.round))
    console = Console(soft_wrap=True)
    click.echo(
        f"{measured.records} records reviewed, {measured.overlapping} of them by two or more;"
        f" {measured.resamples} resamples, seed {measured.seed}"
    )
    console.print(_questions(measured, width))
    topics = {context.persona.topic_name(name): part for name, part in measured.topics.items()}
    console.print(_parts("topic", topics))
    console.print(_parts("pair of reviewers", measured.pairs))
    console.print(_reviewers(measured))
    if any(one.gold_seen for one in measured.reviewers.values()):
        console.print(_gold(measured))


def _questions(measured: Agreement, width: float) -> Table:
    title = f"Agreement by question; more needed: records for an interval of {width:g}"
    table = _table(title, "question", "alpha", "95% interval", "records", "more needed")
    same = {name for name, found in measured.questions.items() if found.value is None}
    for name, found in measured.questions.items():
        if name in same:
            continue
        wanted = found.rows_needed(width)
        more = "–" if wanted is None else str(wanted - found.rows)
        table.add_row(name, *_cells(found), str(found.rows), more)
    if same:
        # Without a single difference there is nothing that chance could be told from.
        table.caption = f"No alpha where all gave the same answer: {', '.join(sorted(same))}"
    return table


def _parts(what: str, parts: Mapping[str, Mapping[str, RaterAgreement]]) -> Table:
    shown = ("fidelity", "decision", "better")
    names = [name for name in shown if any(name in questions for questions in parts.values())]
    table = _table(f"Agreement by {what}{_SHOWN}", what, *names, "records")
    for part, questions in parts.items():
        cells = [_together(questions.get(name)) for name in names]
        table.add_row(part, *cells, str(questions["fidelity"].rows))
    return table


def _reviewers(measured: Agreement) -> Table:
    table = _table(f"Reviewers{_SHOWN}", "reviewer", "reviews", "with the others", "reliability")
    for name, one in measured.reviewers.items():
        trust = "–" if one.reliability is None else f"{one.reliability:.2f}"
        table.add_row(name, str(one.reviews), _together(one.consensus), trust)
    return table


def _gold(measured: Agreement) -> Table:
    title = f"Reviewers on the gold rows{_SHOWN}"
    table = _table(title, "reviewer", "with the known outcomes", "right")
    for name, one in measured.reviewers.items():
        table.add_row(name, _together(one.gold), f"{one.gold_right} of {one.gold_seen}")
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(found: RaterAgreement | None) -> tuple[str, str]:
    """Return alpha and its interval as text; a dash where there is none."""
    value = "–" if found is None or found.value is None else f"{found.value:.2f}"
    if found is None or found.low is None or found.high is None:
        return value, "–"
    return value, f"{found.low:.2f} to {found.high:.2f}"


def _together(found: RaterAgreement | None) -> str:
    """Return alpha and its interval in one cell, which is alpha alone where there is none."""
    if found is None or found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


@click.command()
@round_options
@click.option("--force", is_flag=True, help="Do it again although it is done.")
def resolve(context: RoundContext, force: bool) -> None:
    """Turn the reviews into a decision per row, and show the decisions by reason.

    \b
    Example:
      persona review resolve
    """
    from rounds.pipeline import run_stages

    run_stages(context, ["resolve"], force=["resolve"] if force else [])
    decisions, drops = context.round.read(DECISIONS), context.round.read(RESOLVE_DROPS)
    Console(soft_wrap=True).print(_decisions(decisions, drops))
    click.echo(context.round.stage("resolve"))


def _decisions(decisions: list[Decision], drops: Iterable[Drop]) -> Table:
    decided = {decision.record for decision in decisions if decision.outcome in ("drop", "queue")}
    rows = Counter((str(one.outcome), one.reason) for one in decisions)
    # What the filters took out of the reviewers' own corrections, and pairs that fell.
    later = Counter(("drop after", drop.reason) for drop in drops if drop.record not in decided)
    first = {(str(one.outcome), one.reason): one.record for one in reversed(decisions)}
    table = Table(title="Decisions", title_justify="left")
    for name in ("decision", "reason", "rows", "share", "such as"):
        table.add_column(name, justify="right" if name in ("rows", "share") else "left")
    for key, count in (*rows.most_common(), *later.most_common()):
        share = f"{count / len(decisions):.0%}" if key in rows else ""
        table.add_row(*key, str(count), share, first.get(key, ""))
    table.add_section()
    table.add_row("all", "", str(len(decisions)), "", "")
    return table


@click.command()
@round_options
def adjudicate(context: RoundContext) -> None:
    """Push what the policy can't settle to a second dataset, both opinions beside each answer.

    One review there is final: `persona review pull` brings it back, and `persona review resolve`
    goes by it.

    \b
    Example:
      persona review pull && persona review adjudicate
    """
    from curation.argilla.pull import review_progress
    from rounds.stages.review import push_unsettled

    server = ReviewServer.of(context)
    connection = server.connect()
    _pulled(context)
    reviewed = Reviewed.read(context.round)
    pushed = push_unsettled(
        context,
        connection,
        reviewed.candidates,
        reviewed.reviews,
        reviewed.adjudications,
        reviewed.alternatives,
    )
    if pushed is None:
        click.echo("nothing is unsettled")
        return
    click.echo(f"{pushed.dataset}: {pushed.new} rows pushed, {pushed.already} were there")
    progress = review_progress(connection, context.persona, context.round.name, queue=True)
    server.print_logins(progress.url)


@click.command()
@round_options
@click.argument("name", metavar="ID")
def why(context: RoundContext, name: str) -> None:
    """Tell the story of a row: where it came from, who said what, and what became of it.

    ID is the id of any record of the round or the beginning of one, or the row's source, such as
    seeds.jsonl:17.

    \b
    Example:
      persona review why seeds.jsonl:17
    """
    from rounds.lineage.history import story

    for line in story(context, name):
        click.echo(line)


def _pulled(context: RoundContext) -> None:
    if not context.round.has(REVIEWS):
        raise UserError(
            "no reviews are pulled yet",
            where=str(context.round.folder),
            fix="run `persona review pull` first, or `persona run`",
        )
