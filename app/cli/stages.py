"""One command a stage, for those who go step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.cli.options import round_options
from rounds.context import RoundContext

_force = click.option("--force", is_flag=True, help="Do it again although it is done.")


def run_one(context: RoundContext, stage: str, force: bool) -> None:
    """Run one stage and print its folder."""
    from rounds.pipeline import run_stages

    run_stages(context, [stage], force=[stage] if force else [])
    click.echo(context.round.stage(stage))


def _stage_command(stage: str, text: str) -> click.Command:
    """Return the command of one stage; ``text`` is its help."""

    def run(context: RoundContext, force: bool) -> None:
        run_one(context, stage, force)

    run.__doc__ = f"{text}\n\n\b\nExample:\n  persona {stage}"
    return job_command(stage, run)


def job_command(name: str, function: Callable[..., Any]) -> click.Command:
    """Return a command with the options that name a round, and ``--force``."""
    return click.command(name)(round_options(_force(function)))


def _import(context: RoundContext, files: tuple[Path, ...], force: bool) -> None:
    """Read rows of JSONL into the round; the persona's own seeds where no FILE is given.

    Rows may be {instruction, output}, Alpaca's {instruction, input, output}, chat {messages}, or
    preferences {prompt, chosen, rejected}.

    \b
    Example:
      persona import rows.jsonl --persona datasets/gym-trainer
    """
    run_one(context.importing(files) if files else context, "import", force)


import_ = job_command(
    "import",
    click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")(
        _import
    ),
)
filter_ = _stage_command(
    "filter", "Drop rows that a rule can tell are faulty, each with one named reason."
)
resolve = _stage_command(
    "resolve", "Turn the reviews into a decision for every row, by the configured policy."
)
report = _stage_command("report", "Write the round's report as one HTML file.")
