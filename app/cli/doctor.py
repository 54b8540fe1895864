"""``persona doctor``: do the configured endpoints answer, and how well?"""

from __future__ import annotations

import sys

import click

from app.cli.options import round_options
from rounds.context import RoundContext
from workbench.errors import UserError, UserErrors
from workbench.inference.endpoint import Endpoint

LOG_WIDTH = 160
ROLES = ("teacher", "student", "judge")


@click.command("doctor")
@round_options
def doctor(context: RoundContext) -> None:
    """Ask every configured endpoint a few short things and tell how it does.

    Structured output says whether it keeps to a JSON schema; where it does not, the schema is asked
    for in words, and wrong shapes are asked for again. docs/endpoints.md shows how to configure
    vLLM, Ollama, LM Studio, llama.cpp's server, transformers serve and the OpenAI API. Exit code 2
    if one of them does not answer.

    \b
    Example:
      persona doctor --config run.yaml
    """
    from rich.console import Console
    from rich.table import Table

    endpoints = {role: getattr(context.config, role) for role in ROLES}
    if not any(endpoints.values()):
        click.echo("no endpoint is configured; teacher, student and judge are optional")
        return
    table = Table()
    for name in ("endpoint", "model", "address", "answers", "structured output"):
        table.add_column(name, overflow="fold")
    for name in ("latency (s)", "tokens/s"):
        table.add_column(name, justify="right")
    failed: list[UserError] = []
    for role, endpoint in endpoints.items():
        if endpoint is None:
            table.add_row(role, *["not configured", *["—"] * 5])
            continue
        try:
            found = _found(endpoint)
        except UserError as error:
            failed.append(error)
            found = ("no", "—", "—", "—")
        table.add_row(role, endpoint.model, endpoint.base_url, *found)
    # Where there is no terminal, as in a log, addresses shall stay whole.
    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table)
    if failed:
        raise UserErrors(failed)


def _found(endpoint: Endpoint) -> tuple[str, str, str, str]:
    from generation.probe import probe

    result = probe(endpoint)
    rate = f"{result.rate:.0f}" if result.rate else "not told"
    return "yes", "yes" if result.structured else "no", f"{result.latency:.2f}", rate
