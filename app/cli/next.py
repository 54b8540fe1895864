"""``persona next``: the next round, planned from what the last one's evaluation and reviews say."""

from __future__ import annotations

import click
from click.core import ParameterSource

from app.cli.options import reopen, round_options
from rounds.context import RoundContext


@click.command("next")
@click.option(
    "--rows", type=click.IntRange(min=1), help="New rows to plan.  [default: as many as per_topic]"
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    help="Plan no more than this pays for, in the currency of the teacher's price.",
)
@click.option(
    "--curve",
    is_flag=True,
    help="Train on parts of the rows, and foretell what twice the rows would gain.",
)
@click.option(
    "--quick", is_flag=True, help="Leave out the rows' losses: no model is loaded for them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the page.")
@round_options
def next_(
    context: RoundContext,
    rows: int | None,
    budget: float | None,
    curve: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Open the next round from the last evaluated one, or from --round.

    Writes config.yaml, next.json and next.md into the new round's folder: where the tuned model is
    weak, which rows need another look, and what to ask a teacher or people for. `persona run` with
    the new round's number then makes it.

    \b
    Examples:
      persona next
      persona next --round 2 --budget 5.00
      persona next --curve
    """
    from rounds.planning.next_round import PAGE, last_evaluated, plan_next_round
    from rounds.planning.page import render_page

    if click.get_current_context().get_parameter_source("round_number") is ParameterSource.DEFAULT:
        context = reopen(last_evaluated(context.round).number)
    opened, proposal = plan_next_round(
        context, rows=rows, budget=budget, curve=curve, losses=not quick
    )
    if as_json:
        click.echo(proposal.model_dump_json(indent=1))
        return
    click.echo(render_page(context.persona, proposal))
    click.echo(opened.folder / PAGE)
