"""``persona run``: the whole loop."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.cli.evaluate import tell_failures
from app.cli.generate import EXIT_TOO_FEW, too_few
from app.cli.options import overlap_option, round_options
from rounds.context import RoundContext
from rounds.runner import Outcome
from rounds.stages.review import with_overlap


@click.command()
@round_options
@click.option("--force", multiple=True, metavar="STAGE", help="Do this stage again.")
@click.option(
    "--wait-for-people",
    is_flag=True,
    help="Stop for review: print address and logins, go on when enough is reviewed.",
)
@overlap_option
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
def run(
    context: RoundContext,
    force: tuple[str, ...],
    wait_for_people: bool,
    reviewers_per_record: int | None,
    until: str | None,
) -> None:
    """Run every stage in order; what is done already is not done again.

    \b
    Examples:
      persona run
      persona run --persona datasets/gym-trainer-ko --seed 1
      persona run --force sft
      persona run --until split
      persona run --wait-for-people --reviewers-per-record 2
    """
    from rounds.pipeline import run_stages, stages_until

    context = with_overlap(context.waiting() if wait_for_people else context, reviewers_per_record)
    outcomes = run_stages(context, stages_until(until, context.config.train.methods), force=force)
    last = context.round.stage(outcomes[-1].stage)
    _print_summary(outcomes, last / "report.html" if last.name == "report" else last)
    short = [too_few(context, done.manifest) for done in outcomes if done.stage == "generate"]
    for outcome in outcomes:
        tell_failures(outcome.manifest)
    if any(short):
        click.get_current_context().exit(EXIT_TOO_FEW)


def _print_summary(outcomes: list[Outcome], result: Path) -> None:
    """Print the closing table of stages, and where the result lies."""
    table = Table(title="Stages", title_justify="left")
    for name in ("stage", "state", "time (s)", "peak memory (MiB)"):
        table.add_column(name, justify="left" if name in ("stage", "state") else "right")
    for outcome in outcomes:
        manifest = outcome.manifest
        state = "done" if outcome.ran else "was done"
        table.add_row(outcome.stage, state, f"{manifest.seconds:.1f}", f"{manifest.peak_mib}")
    fresh = [outcome.manifest for outcome in outcomes if outcome.ran]
    table.add_section()
    table.add_row(
        "all",
        f"{len(fresh)} of {len(outcomes)} run now",
        f"{sum(m.seconds for m in fresh):.1f}",
        f"{max((m.peak_mib for m in fresh), default=0)}",
    )
    console = Console(soft_wrap=True)
    console.print(table)
    name = "Report" if result.suffix == ".html" else "Files"
    console.print(f"{name}: {result}", highlight=False)
