"""``persona generate``: a teacher's rows and the bare answers, with the plan and the cost told."""

from __future__ import annotations

import click

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.layout import Manifest
from workbench.config import LOCAL
from workbench.records import Example

EXIT_TOO_FEW = 3
"""Exit code when fewer of the planned rows came than ``--min-share`` asks for."""


@click.command("generate")
@round_options
@click.option("--plan", is_flag=True, help="Only tell requests, tokens and money; ask nothing.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    help="Stop before more is spent in all, in the currency of the teacher's price; resumable.",
)
@click.option(
    "--min-share",
    type=click.FloatRange(0, 1),
    help="Least share of the planned rows that must come; exit code 3 below it.  [default: 0.9]",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value=LOCAL,
    metavar="[ADDRESS]",
    help="Ask from a Ray cluster that this machine is a node of; without an address from one of"
    " its own, on this machine.",
)
@click.option("--force", is_flag=True, help="Do it again; only what failed is asked again.")
def generate(
    context: RoundContext,
    plan: bool,
    budget: float | None,
    min_share: float | None,
    ray: str | None,
    force: bool,
) -> None:
    """Ask the teacher for rows where one is configured, and the base model for its bare answers.

    Killed or stopped at any moment, the same command goes on, and no answer is paid for twice.

    \b
    Exit codes:
      0  done, with enough of the planned rows
      2  a mistake to mend: endpoint, key, budget used up; nothing is half written
      3  done, but fewer rows came than --min-share asks for

    \b
    Examples:
      persona generate --plan
      persona generate --budget 5.00 --min-share 0.95
      persona generate --ray 10.0.0.1:6379
    """
    from rounds.pipeline import run_stages

    context = context.generating(budget=budget, min_share=min_share, ray=ray)
    if plan:
        for line in _plan_lines(context):
            click.echo(line)
        return
    (outcome,) = run_stages(context, ["generate"], force=["generate"] if force else [])
    click.echo(context.round.stage("generate"))
    if too_few(context, outcome.manifest):
        click.get_current_context().exit(EXIT_TOO_FEW)


def too_few(context: RoundContext, manifest: Manifest) -> bool:
    """Return whether fewer of the planned rows came than are asked for, and say so in one line."""
    share, wanted = manifest.counts.get("share", 1.0), context.config.generate.min_share
    if share >= wanted:
        return False
    click.echo(
        f"persona: {share:.1%} of the planned rows came, {wanted:.1%} are asked for"
        " — drops.jsonl says why; `persona generate --force` asks again for what failed",
        err=True,
    )
    return True


def _plan_lines(context: RoundContext) -> list[str]:
    from rounds.carry_over import collect_carry_over
    from rounds.stages.generate import teacher_plan

    seeds = _seeds(context)
    bare = f"bare answers: {len(seeds)} of the imported rows"
    plan = teacher_plan(
        context, [*collect_carry_over(context.source_rounds, context.config.model).rows, *seeds]
    )
    if plan is None:
        return ["no teacher is configured: no new rows", bare]
    lines = [*plan.lines(), f"{bare}, and one for each new row"]
    budget = context.config.generate.budget
    if budget is not None and plan.money and budget < plan.money.high:
        lines.append(f"the budget of {budget:.2f} may not be enough: it then stops, resumable")
    return lines


def _seeds(context: RoundContext) -> list[Example]:
    """Return the imported rows, or what an import would give."""
    from generation.importing import import_rows
    from workbench.sampling import take_spread
    from workbench.store import read_records

    imported = context.round.stage("import") / "examples.jsonl"
    if imported.exists():
        return list(read_records(imported, Example))
    rows = [row for path in context.sources for row in import_rows(path, context.persona).kept]
    return take_spread(rows, context.config.rows)
