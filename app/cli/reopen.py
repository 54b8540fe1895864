"""The job of another round than the one that a command's options name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from rounds.context import CONFIG, Job, open_job
from workbench.config import load_config

_GIVEN = ("config", "preset", "persona", "model", "seed", "runs")


def reopen(number: int) -> Job:
    """Return the job of a round, with the running command's options as they were given.

    Raises:
        UserError: A broken configuration or persona.
    """
    params = click.get_current_context().params
    given: dict[str, Any] = {name: params[name] for name in _GIVEN}
    return open_job(**given, round_number=number)


def as_made(job: Job) -> Job:
    """Return the job with the configuration that its round was made with, whatever is given now.

    A round that wrote none keeps what is given.

    Raises:
        UserError: That configuration is broken.
    """
    saved = job.round.folder / CONFIG
    if not saved.exists():
        return job
    return replace(job, config=load_config(saved, {"persona": job.config.persona}))
