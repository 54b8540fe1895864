"""The job of another round than the one that a command's options name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from rounds.context import RoundContext, open_context
from rounds.layout import CONFIG
from workbench.config import load_config

_GIVEN = ("config", "preset", "persona", "model", "seed", "runs")


def reopen(number: int) -> RoundContext:
    """Return the job of a round, with the running command's options as they were given.

    Raises:
        UserError: A broken configuration or persona.
    """
    params = click.get_current_context().params
    given: dict[str, Any] = {name: params[name] for name in _GIVEN}
    return open_context(**given, round_number=number)


def as_made(context: RoundContext) -> RoundContext:
    """Return the job with the configuration that its round was made with, whatever is given now.

    A round that wrote none keeps what is given.

    Raises:
        UserError: That configuration is broken.
    """
    saved = context.round.folder / CONFIG
    if not saved.exists():
        return context
    return replace(context, config=load_config(saved, {"persona": context.config.persona}))
