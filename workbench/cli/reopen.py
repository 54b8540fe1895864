"""The job of another round than the one that a command's options name."""

from __future__ import annotations

from typing import Any

import click

from workbench.cli.job import Job, open_job

_GIVEN = ("config", "preset", "persona", "model", "seed", "runs")


def reopen(number: int) -> Job:
    """Return the job of a round, with the running command's options as they were given.

    Raises:
        UserError: A broken configuration or persona.
    """
    params = click.get_current_context().params
    given: dict[str, Any] = {name: params[name] for name in _GIVEN}
    return open_job(**given, round_number=number)
