"""``persona model``: a base model, ready to use."""

from __future__ import annotations

import click


@click.command()
@click.argument("name")
def model(name: str) -> None:
    """Get the base model NAME ready and print its folder.

    \b
    Example:
      persona model smollm2-135m
    """
    from workbench.inference.base_models import resolve_model

    click.echo(resolve_model(name))
