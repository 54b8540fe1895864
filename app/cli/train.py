"""`persona train`: one training stage by its method, or what it will cost."""

from __future__ import annotations

import click

from app.cli.stages import job_command, run_one
from rounds.context import RoundContext
from workbench.config import METHODS, TRACKERS, Method
from workbench.errors import UserError


def _recipes(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from rich.console import Console

    from training.plan.recipes import dry_runs, table

    Console(highlight=False).print(table(dry_runs()))
    context.exit()


@click.option(
    "--recipes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_recipes,
    help="List every shipped recipe with its dry run.",
)
@click.argument("method", type=click.Choice(METHODS))
@click.option("--tracker", type=click.Choice(TRACKERS), help="Where the curves are shown live.")
@click.option("--plan", is_flag=True, help="Say what it will cost, and train nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --plan: as JSON.")
@click.option("--device-memory", help="With --plan: for a GPU that is not here, 16GiB.")
@click.option("--recipe", help="With --plan: another recipe, its name or file.")
def _train(
    context: RoundContext,
    method: Method,
    tracker: str | None,
    plan: bool,
    as_json: bool,
    device_memory: str | None,
    recipe: str | None,
    force: bool,
) -> None:
    """Train one stage with QLoRA: sft, then dpo, grpo or kto from its adapter.

    \b
    Examples:
      persona train sft && persona train dpo
      persona train grpo --tracker tensorboard
      persona train sft --plan --device-memory 16GiB
      persona train --recipes
    """
    if plan:
        _plan(context, method, as_json, recipe=recipe, device_memory=device_memory)
        return
    _of_the_plan({"--recipe": recipe, "--device-memory": device_memory, "--json": as_json}, method)
    run_one(context.tracking(tracker) if tracker else context, method, force)


train = job_command("train", _train)


def _of_the_plan(options: dict[str, object], method: Method) -> None:
    """Raise a UserError for an option that training would not heed: it says what is planned."""
    for option, given in options.items():
        if given:
            fix = f"add --plan; to train with a recipe write train: {{{method}: …}} in --config"
            raise UserError("is for --plan alone", where=option, fix=fix)


def _plan(context: RoundContext, method: Method, as_json: bool, **asked: str | None) -> None:
    from app.cli.plan import plan_round

    made = plan_round(context, method, **asked)
    if as_json:
        click.echo(made.model_dump_json(indent=2))
        return
    from rich.console import Console

    from training.plan.plan import fit_line, table

    Console(highlight=False).print(table(made))
    click.echo(fit_line(made))
