"""``persona watch``: a running round in the terminal, from its files and its review server."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.layout import PROGRESS, STAGES
from workbench.config import METHODS

EVERY = 2.0
"""Seconds between two looks."""
OLD = 120.0
"""Seconds after which news may be what a killed command has left."""


@click.command()
@click.option("--once", is_flag=True, help="Print the state once, and end.")
@round_options
def watch(context: RoundContext, once: bool) -> None:
    """Show a round while it runs: stages, what the running one does, reviewers, losses, cost.

    It only reads: it may be started and stopped at any time.

    \b
    Example:
      persona watch
    """
    console = Console(soft_wrap=True, highlight=False)
    if once or not console.is_terminal:
        console.print(dashboard(context))
        return
    with Live(dashboard(context), console=console, refresh_per_second=1) as live:
        while True:
            time.sleep(EVERY)
            # A stage that ends between two reads takes its files away: look again then.
            with suppress(FileNotFoundError):
                live.update(dashboard(context))


def dashboard(context: RoundContext) -> RenderableType:
    """Return the state of a round as it is now."""
    parts: list[RenderableType] = [_stages(context)]
    parts += _reviewers(context)
    return Group(*parts)


def _stages(context: RoundContext) -> Table:
    table = Table(title=f"{context.persona.name}: {context.round.folder}", title_justify="left")
    for name in ("stage", "state", "time (s)", "peak (MiB)", "what came out"):
        table.add_column(name, justify="right" if "(" in name else "left")
    for stage in STAGES:
        manifest = context.round.manifest(stage)
        if manifest is None and stage in METHODS and stage not in context.config.train.methods:
            continue
        begun = (context.round.folder / f".{stage}.partial").exists()
        if begun:
            table.add_row(f"[bold]{stage}[/bold]", _doing(context), "", "", "")
        elif manifest is None:
            table.add_row(stage, "to do", "", "", "")
        else:
            table.add_row(
                stage,
                "done",
                f"{manifest.seconds:.0f}",
                str(manifest.peak_mib),
                _outcome(manifest.counts),
            )
    return table


def _doing(context: RoundContext) -> str:
    """Return what the begun stage does now, or that nothing is at work on it."""
    path = context.round.folder / PROGRESS
    try:
        news: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "begun; nothing is tracked now"
    spent = news["at"] - news["started"]
    told = f"{news['label']}: {news['done']}"
    if news["total"]:
        left = spent / max(news["done"], 1) * (news["total"] - news["done"])
        told += f"/{news['total']}, {spent:.0f} s, {left:.0f} s left"
    told = f"{told} {news['note']}".strip()
    silent = time.time() - news["at"]
    return f"{told}; silent for {silent / 60:.0f} min" if silent > OLD else told


def _outcome(counts: dict[str, Any]) -> str:
    """Return the counts that a person asks after: rows, losses, cost."""
    shown = {
        name: value
        for name, value in counts.items()
        if isinstance(value, int) and value and name not in ("seed", "resumed_from")
    }
    told = [f"{name} {value}" for name, value in list(shown.items())[:4]]
    if "loss_first" in counts:
        told.append(f"loss {counts['loss_first']:.2f} → {counts['loss_last']:.2f}")
    if counts.get("currency"):
        told.append(f"{counts['spent']} {counts['currency']}")
    return ", ".join(told)


def _reviewers(context: RoundContext) -> list[RenderableType]:
    """Return the reviewers' progress while the round waits for them."""
    from rounds.review_server import ReviewServer

    server = ReviewServer.of(context)

    if not (context.round.folder / ".review.partial").exists() or not list(server.pids()):
        return []
    from curation.argilla.pull import review_progress
    from workbench.errors import UserError

    try:
        found = review_progress(server.connect(), context.persona, context.round.name)
    except UserError as error:
        return [f"reviewers: {error}"]
    table = Table(title=f"Reviews: {found.completed} of {found.total} rows", title_justify="left")
    for name in ("reviewer", "submitted", "discarded", "left"):
        table.add_column(name, justify="left" if name == "reviewer" else "right")
    for name, one in found.reviewers.items():
        table.add_row(name, str(one.submitted), str(one.discarded), str(one.left))
    return [table]
