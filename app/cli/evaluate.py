"""``persona evaluate``: the arms of a round compared, and other arms by name."""

from __future__ import annotations

import click

from app.cli.stages import job_command
from rounds.arms import parse_arms
from rounds.context import RoundContext
from rounds.layout import Manifest

EXIT_FAILED = 3
"""Exit code of an evaluation that is whole, and says that too much was forgotten or unscored."""


def _evaluate(context: RoundContext, arms: tuple[str, ...], people: bool, force: bool) -> None:
    """Answer the held-out prompts and probes with every arm and compare each with the base.

    An arm is added by its name and what it is: an earlier round's adapter, the folder of an adapter
    or a model, a hub id, or the configured teacher or student. With +prompt at the end of its name
    it gets the persona's system prompt. The exit code is 3 where general ability fell or scores are
    missing by more than evaluate.gate and evaluate.max_unscored allow.

    An answer that was given is not asked for again, nor is a judge's verdict: they are kept in
    .evaluate.scratch of the round. --force scores anew and asks a judge for what it failed on;
    delete that folder to have every answer anew.

    \b
    Examples:
      persona evaluate
      persona evaluate --round 2 --arm first=round-001/sft
      persona evaluate --arm teacher+prompt=teacher
      persona evaluate --people
    """
    from rounds.pipeline import run_stages

    if people:
        from rounds.blind_round import people as blind_round

        for pairing in blind_round(context).pairings:
            share = "open" if pairing.share is None else f"{pairing.share:.0%}"
            click.echo(f"{pairing.arm} preferred to {pairing.against}: {share}")
        return
    context = context.evaluating(parse_arms(arms))
    (outcome,) = run_stages(context, ["evaluate"], force=["evaluate"] if force else [])
    click.echo(context.round.stage("evaluate"))
    tell_failures(outcome.manifest)


def tell_failures(manifest: Manifest) -> None:
    """Say what an evaluation fails by, one line each, and exit with :data:`EXIT_FAILED`."""
    failures = manifest.counts.get("failures", ())
    for line in failures:
        click.echo(f"persona: evaluation failed: {line}", err=True)
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


evaluate = job_command(
    "evaluate",
    click.option("--arm", "arms", multiple=True, metavar="NAME=WHAT", help="Add an arm.")(
        click.option("--people", is_flag=True, help="A blind round in Argilla, counted so far.")(
            _evaluate
        )
    ),
)
