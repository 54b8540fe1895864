"""`persona train`: one training stage by its method."""

from __future__ import annotations

import click

from workbench.cli.job import Job
from workbench.cli.stages_cli import job_command, run_one
from workbench.config import METHODS, TRACKERS


@click.argument("method", type=click.Choice(METHODS))
@click.option("--tracker", type=click.Choice(TRACKERS), help="Where the curves are shown live.")
def _train(job: Job, method: str, tracker: str | None, force: bool) -> None:
    """Train one stage with QLoRA: sft, then dpo, grpo or kto from its adapter.

    \b
    Examples:
      persona train sft && persona train dpo
      persona train grpo --tracker tensorboard
    """
    run_one(job.tracking(tracker) if tracker else job, method, force)


train = job_command("train", _train)
