"""``persona prompt``: rows from any chat, without an endpoint."""

from __future__ import annotations

import click

from app.cli.options import round_options
from rounds.context import RoundContext
from workbench.errors import UserError, nearest


@click.command("prompt")
@round_options
@click.option("--count", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--topic", "topics", multiple=True, help="Only this topic; may be given repeatedly.")
def prompt(context: RoundContext, count: int, topics: tuple[str, ...]) -> None:
    """Print a prompt for any chat, in the persona's language, that brings COUNT rows of JSONL.

    Save the chat's whole reply as a file; `persona import` finds the rows in it, also in a code
    fence and amid prose. Chats cut long replies off, so better ask ten rows at a time.

    \b
    Examples:
      persona prompt --count 10 --topic squat_form
      persona import reply.txt
    """
    from generation.dataset_prompt import dataset_prompt
    from generation.importing import import_rows

    for topic in topics:
        if topic not in context.persona.topics:
            fix = (
                nearest(topic, context.persona.topics)
                or f"one of {', '.join(context.persona.topics)}"
            )
            raise UserError(f"unknown topic '{topic}'", where="--topic", fix=fix)
    files = [path for path in context.sources if path.exists()]
    seeds = [row for path in files for row in import_rows(path, context.persona).kept]
    click.echo(dataset_prompt(context.persona, seeds, count=count, topics=topics))
