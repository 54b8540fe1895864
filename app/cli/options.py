"""The options that name a round, and what all commands of stages share."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rounds.context import RoundContext, open_context, presets
from rounds.layout import REPORT_PAGE
from workbench.errors import UserError, with_commands

_OPTIONS = ("config", "preset", "persona", "model", "seed", "runs")


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN and infinity, which no bound of click's own refuses.

    Every option that takes a fraction is of this type.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or tell that it is none."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where rounds are kept.",
)
personas_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("datasets"),
    show_default=True,
    help="Where personas are kept.",
)
_PARAMS = (
    click.option("--persona", type=click.Path(path_type=Path), help="Folder of the persona."),
    click.option("--model", help="Base model: smollm2-135m, a folder, or a hub id."),
    click.option("--seed", type=int, help="Seed of everything drawn at random."),
    click.option("--config", type=click.Path(path_type=Path), help="Configuration (YAML)."),
    click.option("--preset", help=f"A configuration that comes along: {', '.join(presets())}."),
    runs_option,
    click.option(
        "--round",
        "round_number",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Number of the round.",
    ),
)


def round_params(command: Callable[..., object]) -> Callable[..., Any]:
    """Give a command the options that name a round, which :func:`reopen` takes up.

    What a mistake says to run next then names the same round.
    """

    @functools.wraps(command)
    def of_round(*args: object, **kwargs: object) -> Any:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            raise with_commands(error, _of_this_round) from None

    wrapped: Callable[..., Any] = of_round
    for option in reversed(_PARAMS):
        wrapped = option(wrapped)
    return wrapped


def _of_this_round(text: str) -> str:
    """Return a command with the running command's options of the round, where it takes them."""
    here = click.get_current_context()
    command: click.Command | None = here.find_root().command
    for word in text.split()[1:]:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(here, word)
    taken = {param.name: param.opts[0] for param in command.params} if command else {}
    for name in (*_OPTIONS, "round_number"):
        option = taken.get(name, "")
        if option and here.get_parameter_source(name) is not ParameterSource.DEFAULT:
            value = here.params[name]
            if f" {option} " not in text and value is not None:
                text += f" {option} {shlex.quote(str(value))}"
    return text


def round_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name a round, and pass it the :class:`RoundContext`."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in (*_OPTIONS, "round_number")}
        return command(open_context(**options), *args, **kwargs)

    return round_params(wrapped)


def reopen(number: int) -> RoundContext:
    """Return the context of another round, with the running command's options as they are.

    Raises:
        UserError: A broken configuration or persona.
    """
    params = click.get_current_context().params
    options: dict[str, Any] = {name: params[name] for name in _OPTIONS}
    return open_context(**options, round_number=number)


force_option = click.option("--force", is_flag=True, help="Do it again although it is done.")
robustness_option = click.option(
    "--robustness", is_flag=True, help="Every held-out question on every surface, not a sample."
)
safety_option = click.option(
    "--safety", is_flag=True, help="The safety sets, requests and conversations whole."
)
dial_option = click.option(
    "--dial", is_flag=True, help="The adapter at several strengths, as a curve in the report."
)
prompts_option = click.option(
    "--prompts",
    is_flag=True,
    help="The base with searched examples and, by a teacher, a searched prompt; each arm's price.",
)
overlap_option = click.option(
    "--reviewers-per-record",
    type=click.IntRange(min=1),
    help="Submitted reviews that complete a record.",
)


def run_one(context: RoundContext, stage: str, force: bool) -> None:
    """Run one stage and print where its result is: its folder, the page of a report."""
    from rounds.pipeline import run_stages

    run_stages(context, [stage], force=[stage] if force else [])
    click.echo(result_of(context, stage))


def result_of(context: RoundContext, stage: str) -> Path:
    """Return what people open when a stage is done: its folder, or the page of a report."""
    return context.round.path(REPORT_PAGE) if stage == "report" else context.round.stage(stage)


def stage_command(stage: str, text: str) -> click.Command:
    """Return the command of a stage that has no options of its own; ``text`` is its help."""

    def run(context: RoundContext, force: bool) -> None:
        run_one(context, stage, force)

    run.__doc__ = f"{text}\n\n\b\nExample:\n  persona {stage}"
    return click.command(stage)(round_options(force_option(run)))
