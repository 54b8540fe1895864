"""``persona sweep`` and ``persona bakeoff``: which recipe, and which base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from app.cli.options import round_options
from evaluation.sweep import SweepReport, label
from rounds.context import RoundContext
from training.device import quiet
from workbench.errors import UserError

if TYPE_CHECKING:
    from workbench.config import Method

_method = click.option(
    "--method", type=click.Choice(["sft", "sdft"]), default="sft", show_default=True,
    help="What is trained.",
)  # fmt: skip


@click.command("sweep")
@click.option(
    "--try", "tried", multiple=True, required=True, metavar="KEY=A,B",
    help="A recipe's key and the values to try; may be given repeatedly.",
)  # fmt: skip
@click.option(
    "--trials", type=click.IntRange(min=2), default=8, show_default=True, help="Trainings at most."
)
@_method
@round_options
def sweep(context: RoundContext, tried: tuple[str, ...], trials: int, method: Method) -> None:
    """Train a recipe with other values of its fields; validation rows decide.

    The recipe as it is comes first, then what looks most promising; what lies behind is stopped. No
    test row is read.
    The same command goes on where it was killed. Take the best over by the lines that are printed,
    then evaluate once.

    \b
    Examples:
      persona sweep --try trainer.learning_rate=5e-4,1.5e-3 --try lora.r=8,16
      persona sweep --method sdft --try trainer.learning_rate=1e-4,5e-4 --trials 4
    """
    from rounds.sweep import run_sweep

    space = dict(map(parse_try, tried))
    with quiet():
        report = run_sweep(context, method, space, trials)
    _print(context, report)
    if report.is_sure:
        overrides = {"train": {"overrides": {method: report.best.changes}}}
        click.echo(yaml.safe_dump(overrides, sort_keys=False), nl=False)


@click.command("bakeoff")
@click.option("--base", "models", multiple=True, required=True, help="A base; the first is yours.")
@_method
@round_options
def bakeoff(context: RoundContext, models: tuple[str, ...], method: Method) -> None:
    """Train the same rows on several bases; validation rows decide, and no test row is read.

    It goes on where it was killed.

    \b
    Example:
      persona bakeoff --base smollm2-135m --base models/other
    """
    from rounds.sweep import run_bakeoff

    with quiet():
        report = run_bakeoff(context, models, method)
    _print(context, report)


def parse_try(text: str) -> tuple[str, list[Any]]:
    """Return key and values of a ``--try`` option; values are read as YAML.

    Raises:
        UserError: It names no key, or no value.
    """
    key, _, values = text.partition("=")
    read = [_number(yaml.safe_load(one)) for one in values.split(",") if one.strip()]
    if not key.strip() or not read:
        fix = "such as --try lora.r=8,16"
        raise UserError(f"'{text}' names no key with values", where="--try", fix=fix)
    return key.strip(), read


def _number(value: object) -> Any:
    """Return ``5e-4`` as a number, which YAML takes for text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _print(context: RoundContext, report: SweepReport) -> None:
    table = Table(title="Nats a hundred characters of the validation answers", title_justify="left")
    for name in ("training", "loss", "before", "time (s)"):
        table.add_column(name, justify="left" if name == "training" else "right")
    for one in report.trials:
        loss = f"stopped at step {one.stopped_at}" if one.loss is None else f"{one.loss:.2f}"
        before = "–" if one.base_loss is None else f"{one.base_loss:.2f}"
        table.add_row(label(one.changes), loss, before, f"{one.seconds:.0f}")
    click.echo(f"table and figure are in the report: {context.options.command('report')}")
    Console(soft_wrap=True, highlight=False).print(table)
    click.echo(report.advice)
