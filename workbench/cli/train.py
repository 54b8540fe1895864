"""`persona train`: one training stage by its method."""

from __future__ import annotations

import click

from workbench.cli.job import Job
from workbench.cli.stages_cli import job_command, run_one
from workbench.config import METHODS


def _train(job: Job, method: str, force: bool) -> None:
    """Train one stage with QLoRA: sft, then dpo, grpo or kto from its adapter.

    \b
    Example:
      persona train sft && persona train dpo
    """
    run_one(job, method, force)


train = job_command("train", click.argument("method", type=click.Choice(METHODS))(_train))
